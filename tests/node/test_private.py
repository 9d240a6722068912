"""What a program is kept from where it has the node's own user id, and how a machine says why it cannot be."""

import os
import socket
import sys
from pathlib import Path

import pytest

from runyard.core.house import Root
from runyard.node.features import ALONE, OPEN, missing_walls, why_none
from runyard.node.home import AttemptFolder
from runyard.node.inventory import isolation_notes
from runyard.node.lent import Lent
from runyard.node.private import linked_folders, private_folders, private_sockets

ALL = {"memory": True, "cpu": True, "pids": True}
FOLDER = AttemptFolder("training-a1B2c3D4e", 1, "/home/node/runs/training-a1B2c3D4e/attempts/1")


def test_the_service_and_what_its_user_keeps_to_itself_are_hidden(tmp_path: Path) -> None:
    home, runtime, service = (tmp_path / name for name in ("home", "runtime", "service"))
    for folder in (home, runtime, service):
        folder.mkdir()
    environment = {"HOME": str(home), "XDG_RUNTIME_DIR": str(runtime), "OTHER": "/etc"}
    hidden = private_folders([str(service)], (), environment)
    assert set(map(str, (home, runtime, service))) <= set(hidden)
    lent = private_folders([str(service)], [Root(str(tmp_path), True)], environment)
    assert str(home) not in lent
    assert str(service) in lent
    inner = private_folders([str(service)], [Root(str(home / "data"))], environment)
    assert str(home) in inner


def test_the_root_folder_and_folders_of_the_system_are_not_hidden(tmp_path: Path) -> None:
    hidden = private_folders(["/"], (), {"HOME": "/etc", "XDG_RUNTIME_DIR": str(tmp_path / "none")}, user=61_235)
    assert hidden == ()


def test_a_program_writes_where_it_is_to_and_nowhere_else() -> None:
    lent = Lent((Root("/data"), Root("/scratch", True)), True, ("/home/node",), sealed=True)
    words = lent.words(FOLDER, ["/home/node/runs"], [])
    assert words["read_only"] == ["/"]
    assert words["writable"] == ["/scratch", "/home/node/runs", "/tmp", "/var/tmp"]
    assert lent.visible() == ["/data", "/scratch"]
    assert Lent((Root("/data"),)).visible() == []


def test_sockets_that_everybody_may_write_to_are_not_covered(tmp_path: Path) -> None:
    closed, open_ = tmp_path / "closed", tmp_path / "open to all"
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        first.bind(str(closed))
        second.bind(str(open_))
        closed.chmod(0o660)
        open_.chmod(0o666)
        found = private_sockets()
        assert str(closed) in found
        assert str(open_) not in found
        assert all(os.path.exists(path) for path in found)
    assert private_sockets(str(tmp_path / "no table")) == []


def test_folders_of_editable_installations_are_found(tmp_path: Path) -> None:
    site, package = tmp_path / "site-packages", tmp_path / "src"
    package.mkdir()
    assert linked_folders([str(site)]) == ()
    site.mkdir()
    (site / "mine.pth").write_text(f"import sys\n# words\n{package}\n/no/such/folder\nrelative\n")
    assert linked_folders([str(site)]) == (str(package),)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces="),
        ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", os.path.realpath(sys.executable)),
        ("kernel/other", "1", "container"),
    ],
)
def test_why_there_are_no_user_namespaces(tmp_path: Path, name: str, value: str, says: str) -> None:
    path = tmp_path / name
    path.parent.mkdir()
    path.write_text(value + "\n")
    assert says in why_none(str(tmp_path))


def test_what_is_missing_is_said_once_for_a_machine_and_in_each_run() -> None:
    given = ("user", "pid", "mount", "ipc")
    assert missing_walls(given, 1000) == missing_walls(given, 0) == ()
    assert missing_walls((), 1000)[0].startswith(OPEN)
    assert missing_walls((), 0)[0].startswith(ALONE)
    assert isolation_notes(0, ALL, given) == []
    assert OPEN in isolation_notes(1000, ALL, ())[0]
    assert "namespaces part them" in isolation_notes(1000, ALL, given)[0]
