"""Shims forked by a launcher: many at once, one that dies in between, and none to be had."""

import fcntl
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard.node import launcher as launchers
from runyard.node.home import AttemptFolder
from runyard.node.launcher import Launcher
from runyard.node.shims import run_script, start_shim
from tests.shim.launching import PATIENCE_S, alive, bash, order
from tests.support.waiting import wait_until


@pytest.fixture
def made() -> Iterator[Launcher]:
    launcher = Launcher()
    yield launcher
    launcher.close()


def folder_in(place: Path, number: int) -> AttemptFolder:
    path = place / str(number) / "a"
    path.mkdir(parents=True, mode=0o700)
    return AttemptFolder(f"training-a1B2c3D4{number}", 1, str(path))


def order_of(folder: AttemptFolder, command: str, **fields: object) -> dict[str, object]:
    return order(Path(folder.path).parent, bash(command), attempt=folder.name, **fields)


def ended(folder: AttemptFolder) -> dict[str, object]:
    wait_until(lambda: os.path.exists(folder.exit), f"the end of {folder.name}")
    return json.loads(Path(folder.exit).read_text())


def shim_of(folder: AttemptFolder) -> int:
    wait_until(lambda: os.path.exists(folder.started), f"the start of {folder.name}")
    return int(json.loads(Path(folder.started).read_text())["shim_pid"])


def test_forty_launches_at_once_are_forty_runs_each_with_a_shim_of_its_own(made: Launcher, tmp_path: Path) -> None:
    folders = [folder_in(tmp_path, number) for number in range(40)]

    def launch(some: list[AttemptFolder]) -> None:
        for folder in some:
            assert made.start(folder, order_of(folder, f"exit {folder.path.split('/')[-2]}")) is None

    threads = [threading.Thread(target=launch, args=(folders[first::4],)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert [ended(folder)["exit_code"] for folder in folders] == list(range(40))
    assert len({shim_of(folder) for folder in folders}) == 40
    assert all(Path(folder.shim_errors).read_text() == "" for folder in folders)
    wait_until(lambda: not any(alive(shim_of(folder)) for folder in folders), "the end of the shims")


def test_a_shim_outlives_its_launcher_holds_what_it_was_given_and_has_nothing_of_the_others(
    made: Launcher, tmp_path: Path
) -> None:
    first, second = (folder_in(tmp_path, number) for number in (1, 2))
    held, holding = os.pipe()
    waits = "until [ -e $GO ]; do sleep 0.02; done; exit 5"
    env = {"PATH": "/usr/bin:/bin", "GO": str(tmp_path / "go")}
    for folder in (first, second):
        made.start(folder, order_of(folder, waits, env=env), (holding,) if folder is first else ())
    os.close(holding)
    shims = [shim_of(folder) for folder in (first, second)]
    assert made.pid is not None
    assert [os.getsid(shim) for shim in shims] == shims
    opened = {os.readlink(f"/proc/{shims[1]}/fd/{name}") for name in os.listdir(f"/proc/{shims[1]}/fd")}
    assert not [path for path in opened if path.startswith(first.path)]
    assert {path for path in opened if path.startswith(second.path)} >= {second.path, second.lock}
    os.kill(made.pid, signal.SIGKILL)
    os.set_blocking(held, False)
    with pytest.raises(BlockingIOError):
        os.read(held, 1)
    (tmp_path / "go").touch()
    assert [ended(folder)["exit_code"] for folder in (first, second)] == [5, 5]
    os.set_blocking(held, True)
    assert os.read(held, 1) == b""
    os.close(held)


def test_a_launcher_that_was_killed_is_replaced(made: Launcher, tmp_path: Path) -> None:
    pids: list[int] = []
    for number in range(3):
        folder = folder_in(tmp_path, number)
        assert made.start(folder, order_of(folder, "exit 4")) is None
        assert ended(folder)["exit_code"] == 4
        assert made.pid is not None
        pids.append(made.pid)
        os.kill(made.pid, signal.SIGKILL)
        wait_until(lambda pid=made.pid: not alive(pid), "the end of the launcher")
    assert len(set(pids)) == 3


def test_what_has_run_is_not_run_again(made: Launcher, tmp_path: Path) -> None:
    """As where a launcher is killed once it has forked a shim, and that is over before anybody looks."""
    folder = folder_in(tmp_path, 1)
    order = order_of(folder, "echo ran >> ran", cwd=str(tmp_path / "1"))
    made.start(folder, order)
    ended(folder)
    wait_until(lambda: is_free(folder), "the end of its shim")
    with pytest.raises(BlockingIOError):
        made.start(folder, order)
    with pytest.raises(BlockingIOError):
        start_shim(folder, order)
    assert (tmp_path / "1" / "ran").read_text() == "ran\n"


def is_free(folder: AttemptFolder) -> bool:
    """Whether no shim holds a learner's lock."""
    with open(folder.lock) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_launches_go_on_while_launchers_are_being_killed(made: Launcher, tmp_path: Path) -> None:
    """Wherever the kill hits, a launch is one run: never none, never two."""
    folders = [folder_in(tmp_path, number) for number in range(20)]
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.01):
            if (pid := made.pid) is not None:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass  # it has just been collected

    killer = threading.Thread(target=kill)
    killer.start()
    children = [
        made.start(each, order_of(each, "echo ran >> ran", cwd=str(Path(each.path).parent))) for each in folders
    ]
    over.set()
    killer.join(PATIENCE_S)
    assert [ended(folder)["exit_code"] for folder in folders] == [0] * 20
    assert [(Path(folder.path).parent / "ran").read_text() for folder in folders] == ["ran\n"] * 20
    for child in children:
        if child is not None:
            child.wait(PATIENCE_S)


def test_a_launcher_that_hangs_is_ended_and_the_shim_started_without_it(
    made: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launchers, "PATIENCE_S", 0.5)
    first, second = (folder_in(tmp_path, number) for number in (1, 2))
    made.start(first, order_of(first, "true"))
    pid = made.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    child = made.start(second, order_of(second, "exit 3"))
    assert child is not None
    assert ended(second)["exit_code"] == 3
    assert child.wait(PATIENCE_S) == 0
    assert not alive(pid)


def test_a_folder_that_has_a_shim_gets_no_second(made: Launcher, tmp_path: Path) -> None:
    folder = folder_in(tmp_path, 1)
    env = {"PATH": "/usr/bin:/bin", "GO": str(tmp_path / "go")}
    made.start(folder, order_of(folder, "until [ -e $GO ]; do sleep 0.02; done", env=env))
    with pytest.raises(BlockingIOError):
        made.start(folder, order_of(folder, "true"))
    (tmp_path / "go").touch()
    assert ended(folder)["exit_code"] == 0


def test_the_launcher_ends_with_the_node_and_leaves_no_dead_shims_behind(made: Launcher, tmp_path: Path) -> None:
    folders = [folder_in(tmp_path, number) for number in range(5)]
    for folder in folders:
        made.start(folder, order_of(folder, "true"))
    pid = made.pid
    assert pid is not None
    shims = [shim_of(folder) for folder in folders]
    wait_until(lambda: not any(os.path.exists(f"/proc/{shim}") for shim in shims), "the shims to be collected")
    made.close()
    assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("text", [b"nonsense", b'{"op": "dance", "number": 3}'])
def test_what_is_no_launch_is_answered_and_harms_nothing(tmp_path: Path, text: bytes) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(PATIENCE_S)
    with ours, theirs:
        process = run_script(["--launcher", "--control-fd", str(theirs.fileno())], (theirs.fileno(),), 2)
        theirs.close()
        for _ in range(2):
            ours.send(text)
            assert "only launches" in json.loads(ours.recv(1000))["error"]
    assert process.wait(PATIENCE_S) == 0
