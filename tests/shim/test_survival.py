"""Who may die, and what then: the node, the shim, clients; and a disk with no room left."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runyard.shim.cgroups import kill_cgroup
from runyard.shim.processes import start_ticks
from tests.shim.launching import PATIENCE_S, UID, Client, Launcher, alive, group, needs_root
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


def test_the_lock_is_held_for_as_long_as_the_shim_lives(launcher: Launcher) -> None:
    attempt = launcher.launch("echo ready; sleep 60")
    attempt.wait_for_line("ready")
    assert not attempt.lock_is_free()
    client = attempt.running()
    client.say(op="stop", cause="cancel", grace_s=0)
    attempt.ended()
    assert attempt.lock_is_free()


@pytest.mark.parametrize("uid", [None, pytest.param(UID, marks=needs_root)])
def test_a_killed_shim_takes_the_program_with_it_and_leaves_no_record_of_an_end(
    launcher: Launcher, uid: int | None
) -> None:
    deaf = "import signal as s\nfor n in (1, 2, 15): s.signal(n, 1)\nprint('ready', flush=True)\nwhile 1: s.pause()"
    attempt = launcher.launch(["/usr/bin/python3", "-I", "-S", "-c", deaf], uid=uid, gid=uid)
    attempt.wait_for_line("ready")
    started = attempt.started()
    assert start_ticks(started["pid"]) == started["pid_start_ticks"]
    attempt.process.kill()
    attempt.process.wait(PATIENCE_S)
    wait_until(lambda: not alive(started["pid"]), "the end of the program", pause=0.002)
    wait_until(attempt.lock_is_free, "the lock", pause=0.002)
    assert not (attempt.folder / "exit.json").exists()


@needs_root
def test_the_node_can_end_what_a_killed_shim_leaves(launcher: Launcher) -> None:
    attempt = launcher.launch(
        "setsid bash -c 'trap \"\" TERM HUP; echo left $$; while :; do sleep 60; done' & echo ready; wait",
        uid=UID,
        gid=UID,
        cgroup=group("left"),
    )
    attempt.wait_for_line("ready")
    wait_until(lambda: "left" in attempt.logged(), "the background process")
    left = int(attempt.logged().split("left ")[1].split()[0])
    cgroup = attempt.started()["cgroup"]
    attempt.process.kill()
    attempt.process.wait(PATIENCE_S)
    assert alive(left)
    assert kill_cgroup(cgroup["name"], cgroup["folders"]) == set()
    assert not alive(left)
    assert [folder for folder in cgroup["folders"] if os.path.exists(folder)] == []
    assert kill_cgroup(cgroup["name"], cgroup["folders"]) == set()  # a second time harms nothing


NODE = """
import os, sys, time
from pathlib import Path
from tests.shim.launching import Launcher
program = "while [ -e /proc/$NODE ]; do sleep 0.02; done; exit 9"
attempt = Launcher(Path(sys.argv[1])).launch(program, env={"PATH": "/usr/bin:/bin", "NODE": str(os.getpid())})
attempt.running()
print("running", flush=True)
time.sleep(600)
"""


def test_a_killed_node_changes_nothing_and_can_be_told_the_end_later(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", NODE, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), *sys.path]))},
        stdout=subprocess.PIPE,
        text=True,
    ) as node:
        assert node.stdout is not None
        assert node.stdout.readline() == "running\n"
        node.kill()
    folder = tmp_path / "1" / "a"
    wait_until((folder / "exit.json").exists, "the exit record")
    assert json.loads((folder / "exit.json").read_text())["exit_code"] == 9


def test_clients_may_come_and_go(launcher: Launcher) -> None:
    attempt = launcher.launch("sleep 60")
    for _ in range(5):
        attempt.running().close()
    gone = attempt.running()
    gone.say(op="nonsense")
    gone.close()  # with an answer unread
    staying = [attempt.running() for _ in range(5)]
    again = attempt.connect()
    told = again.wait_for("started")
    assert (told["pid"], told["stopping"]) == (attempt.started()["pid"], None)
    again.say(op="stop", cause="cancel", grace_s=0)
    ends = [client.wait_for("exited")["record"] for client in staying]
    assert ends == [attempt.ended()] * 5


def chatter(client: Client) -> None:
    """Say things that are answered, and take no answer, for as long as the other end has patience."""
    for _ in range(100_000):
        client.say(op="nonsense")


def test_a_client_that_never_reads_holds_nothing_up(launcher: Launcher) -> None:
    attempt = launcher.launch("sleep 60")
    idle, busy = attempt.connect(), attempt.running()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        chatter(idle)
    busy.say(op="stop", cause="cancel", grace_s=0)
    assert busy.wait_for("exited")["record"]["cause"] == "cancel"


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A mounted file system of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=0755", "small", str(disk)], check=True)
    return disk


@needs_root
def test_an_end_is_recorded_on_a_full_disk(small_disk: Path) -> None:
    launcher = Launcher(small_disk)
    try:
        attempt = launcher.launch(f"dd if=/dev/zero of={small_disk}/fill bs=4096 status=none || exit 8")
        assert attempt.ended()["exit_code"] == 8
        assert os.statvfs(small_disk).f_bavail <= 1  # what the record did not need of the room reserved for it
    finally:
        launcher.close()
        subprocess.run(["umount", str(small_disk)], check=True)


@needs_root
def test_a_program_does_not_start_where_its_start_cannot_be_recorded(launcher: Launcher, tmp_path: Path) -> None:
    folder = tmp_path / "1" / "a"
    cgroup = group("record")
    # The child waits for the log, which this test holds back, while a folder takes the place of the record.
    os.makedirs(folder.parent)
    os.mkfifo(folder.parent / "log")
    attempt = launcher.launch("echo ran", log=str(folder.parent / "log"), cgroup=cgroup)
    (folder / "started.json.tmp").mkdir()
    reader = os.open(folder.parent / "log", os.O_RDONLY)
    try:
        ended = attempt.ended()
        assert (ended["launch_failed"]["stage"], ended["started_at_ms"]) == ("record", None)
        assert os.read(reader, 100) == b""
    finally:
        os.close(reader)


def test_an_attempt_whose_folder_is_deleted_is_still_seen_to_its_end(launcher: Launcher) -> None:
    attempt = launcher.launch("echo ready; read -r _ < $FIFO", env={"FIFO": str(launcher.folder / "fifo")})
    os.mkfifo(launcher.folder / "fifo")
    attempt.wait_for_line("ready")
    shutil.rmtree(attempt.folder)
    (launcher.folder / "fifo").write_text("go on\n")
    assert attempt.process.wait(PATIENCE_S) == 0
