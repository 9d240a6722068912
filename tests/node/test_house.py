"""Folders of the house and users of the machine: two members under their own ids, on both ways of starting.

The roots lie on a file system that is mounted for the test alone, as an NFS mount would be; where nothing may be
mounted, in a plain folder.
"""

import ctypes
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runyard.core.house import User, Users
from runyard.node.features import find_namespaces
from runyard.node.users import Mapping
from runyard.wire import facts, orders
from tests.node.nodes import OTHER, RUN, NodeProcess, launch_of, of_run, run_to_end, running_node, stage_of, store_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="members have users of their own where the node is root")
MIA, BEN, GROUP = 61_001, 61_002, 61_100
USERS = {"mia": {"uid": MIA, "groups": [GROUP]}, "ben": {"uid": BEN}}
libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class House:
    """``data`` is read-only for programs, ``scratch`` is not."""

    data: Path
    scratch: Path


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    base = tmp_path / "mounted"
    base.mkdir()
    mounted = libc.mount(b"house", str(base).encode(), b"tmpfs", 0, b"mode=0755,size=16m") == 0
    made = House(base / "data", base / "scratch")
    made.data.mkdir()
    made.scratch.mkdir()
    made.data.chmod(0o777)
    made.scratch.chmod(0o1777)
    _file(made.data / "open.txt", "for all", MIA, 0o644)
    _file(made.data / "mia.txt", "mia's own", MIA, 0o600)
    _file(made.data / "group.txt", "of her group", 0, 0o640, GROUP)
    yield made
    if mounted:
        libc.umount2(str(base).encode(), 2)


def _file(path: Path, text: str, uid: int, mode: int, gid: int | None = None) -> None:
    path.write_text(text)
    path.chmod(mode)
    os.chown(path, uid, uid if gid is None else gid)


@pytest.fixture
def node(tmp_path: Path, house: House) -> Iterator[NodeProcess]:
    roots = ("--host-path", str(house.data), "--host-path", f"{house.scratch}:rw")
    with running_node(tmp_path, *roots, "--users", json.dumps(USERS)) as running:
        yield running


LOOKS = """\
import json, os
told = {"ids": [os.getuid(), os.getgid()]}
def tried(name, act):
    try:
        told[name] = act()
    except OSError as error:
        told[name] = type(error).__name__ if error.errno != 30 else "ReadOnly"
def write(path):
    open(path, "w").write("x")
    return "written"
data, scratch = os.environ["DATA_DIR_data"], os.environ["DATA_DIR_scratch"]
tried("open", lambda: open(data + "/open.txt").read())
tried("mia", lambda: open(data + "/mia.txt").read())
tried("group", lambda: open(data + "/group.txt").read())
tried("write data", lambda: write(data + "/new.txt"))
tried("overwrite data", lambda: write(data + "/open.txt"))
tried("write scratch", lambda: write(scratch + "/of-%d.txt" % os.getuid()))
tried("remount", lambda: os.rmdir(data))
print("TOLD", json.dumps(told), flush=True)
"""


def parts(house: House) -> tuple[orders.Part, ...]:
    paths = {"data": house.data, "scratch": house.scratch}
    return tuple(orders.Part(orders.Place("volume", "", name=name, path=str(at))) for name, at in paths.items())


def looks(node: NodeProcess, house: House, login: str, number: int, run: str, way: str) -> dict[str, Any]:
    """What a member's program tells that was started that way."""
    warm = orders.Warm("acme", number, login=login) if way == "warm" else None
    stage = stage_of(node.server, {"look.py": LOOKS}, data=parts(house), warm=warm)
    note = ""
    for attempt in range(1, 30):
        exited = run_to_end_of(node, stage, run, attempt, login, number)
        assert exited.exit_code == 0, (exited, node.server.log(run, attempt))
        started = json.loads((node.attempt(run, attempt) / "started.json").read_text())
        if started["way"] == way:
            assert started["missing"] == []
            text = node.server.log(run, attempt).decode()
            return json.loads(text.partition("TOLD ")[2].splitlines()[0])
        note = started["way_note"]
    raise AssertionError(note)


def run_to_end_of(
    node: NodeProcess, stage: orders.Stage, run: str, attempt: int, login: str, number: int
) -> facts.Exited:
    server = node.server
    order = orders.Launch(
        run, attempt, "demo", "python3 look.py", stage, orders.Place("local", "results", account="acme"),
        member=number, login=login, slots=(0,), memory_mib=512, grace_ms=5000,
    )  # fmt: skip
    server.give(order)
    exited = server.wait_for(facts.Exited, of_run(run, attempt))
    server.wait(lambda: len(server.log(run, attempt)) >= exited.log_bytes, "the log")
    return exited


@pytest.mark.skipif("user" not in find_namespaces(), reason="this machine allows no namespaces")
@pytest.mark.parametrize("way", ["exec", "warm"])
def test_two_members_have_their_own_ids_and_files(node: NodeProcess, house: House, way: str) -> None:
    mia = looks(node, house, "mia", 1, RUN, way)
    ben = looks(node, house, "ben", 2, OTHER, way)
    assert mia["ids"] == [MIA, MIA]
    assert ben["ids"] == [BEN, BEN]
    assert (mia["open"], mia["mia"], mia["group"]) == ("for all", "mia's own", "of her group")
    assert (ben["open"], ben["mia"], ben["group"]) == ("for all", "PermissionError", "PermissionError")
    for told in (mia, ben):
        assert (told["write data"], told["overwrite data"], told["write scratch"]) == (
            "ReadOnly",
            "ReadOnly",
            "written",
        )
    assert (house.data / "open.txt").read_text() == "for all"
    assert not (house.data / "new.txt").exists()
    for uid in (MIA, BEN):
        facts_ = (house.scratch / f"of-{uid}.txt").stat()
        assert (facts_.st_uid, facts_.st_gid) == (uid, uid)


def test_results_are_stored_with_the_members_rights(node: NodeProcess, house: House) -> None:
    own = house.scratch / "mia"
    own.mkdir(mode=0o700)
    os.chown(own, MIA, MIA)
    run_to_end(node, "echo model > $RESULT_DIR/model.txt; exit 3", member=2, login="ben")
    theirs = orders.Place("volume", "", path=str(own), member=2, login="ben")
    node.server.give(store_of(results=theirs))
    failed = node.server.wait_for(facts.StoreFailed)
    assert "may not be used" in failed.detail
    assert list(own.iterdir()) == []
    node.server.give(store_of(results=orders.Place("volume", "ben", path=str(house.scratch), member=2, login="ben")))
    node.server.wait_for(facts.Stored)
    stored = house.scratch / "ben" / RUN / "model.txt"
    assert stored.exists(), sorted((house.scratch / "ben").rglob("*"))
    assert stored.read_text() == "model\n"
    assert {path.stat().st_uid for path in (stored, stored.parent)} == {BEN}


def test_a_read_only_root_takes_no_results(node: NodeProcess, house: House) -> None:
    run_to_end(node, "exit 3", member=1, login="mia")
    node.server.give(store_of(results=orders.Place("volume", "", path=str(house.data), member=1, login="mia")))
    failed = node.server.wait_for(facts.StoreFailed)
    assert "read-only" in failed.detail


def test_a_folder_that_became_a_symbolic_link_is_not_bound(tmp_path: Path, house: House) -> None:
    """What lies behind a folder that only root may pass cannot be had by a link that takes the place of what was
    staged."""
    secret = house.data.parent / "closed"
    (secret / "inner").mkdir(parents=True)
    (secret / "inner" / "secret.txt").write_text("theirs")
    secret.chmod(0o700)
    (secret / "inner").chmod(0o755)
    aim = house.scratch / "set"
    aim.mkdir()
    with running_node(tmp_path, "--host-path", f"{house.scratch}:rw", "--users", json.dumps(USERS)) as node:
        part = orders.Part(orders.Place("volume", "set", name="set", path=str(house.scratch)))
        stage = stage_of(node.server, {}, data=(part,))
        node.server.give(stage)
        node.server.wait_for(facts.Staged)
        aim.rmdir()
        aim.symlink_to(secret / "inner")
        node.server.give(launch_of(stage, "cat $DATA_DIR/secret.txt", member=2, login="ben"))
        exited = node.server.wait_for(facts.Exited, of_run(RUN))
        assert "symbolic link" in (exited.launch_error or "")
        assert b"theirs" not in node.server.log(RUN)


def test_a_member_of_the_machines_own_database() -> None:
    closed: list[int] = []

    def close(first: int, last: int) -> list[str]:
        closed.extend(range(first, last + 1))
        return []

    mapping = Mapping(50_000, Users(system=True), close)
    for login in ("lab/no-such-user-here", "no-such-group/root", "root", "owner"):
        assert mapping.user(3, login) == User(50_003, 50_003)
    with pytest.raises(PermissionError, match="which are its own"):
        mapping.user(1, "root/root")
    assert closed == []
    told = Mapping(50_000, Users({"mia": User(MIA, MIA, (GROUP,))}), close)
    assert told.user(1, "mia") == told.user(1, "mia") == User(MIA, MIA, (GROUP,))
    assert closed == [MIA]


@pytest.fixture
def account() -> Iterator[str]:
    """A user of the machine, in a group of people and in one of the system's."""
    name = f"runyard-test-{os.getpid()}"
    if subprocess.run(["useradd", "-M", "-u", "61235", "-G", "daemon", name], check=False).returncode != 0:
        pytest.skip("no user can be made on this machine")
    yield name
    subprocess.run(["userdel", name], check=True)


def test_groups_of_the_system_are_left_out(account: str) -> None:
    mapping = Mapping(50_000, Users(system=True), lambda _first, _last: [])
    assert mapping.user(1, f"root/{account}") == User(50_001, 50_001)
    user = mapping.user(1, f"daemon/{account}")
    assert (user.uid, user.groups) == (61_235, ())
    assert user.gid >= 1000
