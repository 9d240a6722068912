"""A /dev/shm of the program's own, and a program without network."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shim.launching import SHIM, UID, Launcher, bash, needs_root

probed = subprocess.run([sys.executable, "-I", "-S", "-B", str(SHIM), "--probe"], capture_output=True, check=False)
WORKS = probed.stdout.decode().split()
can_shm = pytest.mark.skipif("shm" not in WORKS, reason="this machine lets nobody mount")
can_cut = pytest.mark.skipif("network_off" not in WORKS, reason="this machine lets nobody make network namespaces")


def test_the_probe_prints_names_and_leaves_this_process_where_it_is() -> None:
    assert probed.returncode == 0
    assert set(WORKS) <= {"shm", "network_off", "user", "pid", "mount", "ipc", "metadata"}
    if os.geteuid() != 0:
        assert "metadata" not in WORKS
        assert ("shm" in WORKS) == ("user" in WORKS)


@can_shm
@needs_root
@pytest.mark.parametrize("uid", [None, UID])
def test_shm_has_its_size_and_is_the_programs_own(launcher: Launcher, uid: int | None) -> None:
    name = f"runyard-test-{os.getpid()}"
    command = f"df -m --output=size /dev/shm | tail -1; touch /dev/shm/{name}; ls -A /dev/shm; "
    command += "head -c 9M /dev/zero > /dev/shm/big"
    attempt = launcher.launch(command, uid=uid, gid=uid, shm_mib=8)
    assert attempt.ended()["exit_code"] == 1, attempt.logged()
    lines = attempt.logged().splitlines()
    assert (int(lines[0]), lines[1]) == (8, name)
    assert "No space left" in lines[2]
    assert not os.path.exists(f"/dev/shm/{name}")


@can_cut
@needs_root
@pytest.mark.parametrize("uid", [None, UID])
def test_without_network_there_is_the_loopback_alone(launcher: Launcher, uid: int | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside:
        port = outside.getsockname()[1]
        program = (
            "import socket\n"
            "print([line.split(':')[0].strip() for line in open('/proc/net/dev') if ':' in line])\n"
            "own = socket.create_server(('127.0.0.1', 0))\n"
            "socket.create_connection(own.getsockname()).close()\n"
            "print('own loopback')\n"
            "try:\n"
            f"    socket.create_connection(('127.0.0.1', {port}))\n"
            "except ConnectionRefusedError:\n"
            "    print('machine out of reach')\n"
        )
        attempt = launcher.launch(
            bash(f"python3 - <<'E'\n{program}E"), uid=uid, gid=uid, network=False, env={"PATH": "/usr/bin:/bin"}
        )
        assert attempt.ended()["exit_code"] == 0, attempt.logged()
    assert attempt.logged().splitlines() == ["['lo']", "own loopback", "machine out of reach"]


@needs_root
def test_a_shim_without_root_says_that_it_cannot(open_launcher: Launcher) -> None:
    for fields, stage in (({"shm_mib": 8}, "shm"), ({"network": False}, "network")):
        attempt = open_launcher.launch("true", user=UID, **fields)
        failed = attempt.ended()["launch_failed"]
        assert failed["stage"] == stage
        assert "must run as root" in failed["message"]


IN_A_CHROOT = """
import os, sys
from runyard.shim import isolation, view
from runyard.shim.lean import libc
bare = sys.argv[1]
view.own_mounts()
libc("mount", b"/proc", os.fsencode(bare) + b"/proc", None, view.MS_BIND | view.MS_REC, None)
os.chroot(bare)
os.chdir("/work")
isolation.own_shm(3)
held = os.statvfs("/dev/shm")
print(held.f_blocks * held.f_frsize, sorted(os.listdir("/")))
"""


@can_shm
@needs_root
def test_mounts_are_made_in_a_root_that_is_no_mount_point(tmp_path: Path) -> None:
    for name in ("proc", "dev/shm", "work"):
        (tmp_path / name).mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", IN_A_CHROOT, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{3 << 20} ['dev', 'proc', 'work']\n", done.stderr
    assert not os.path.ismount(tmp_path / "proc")


OPENING = "for n in 0 1; do head -c 1 /dev/null < $FOLDER/gpu$n && echo open $n || echo closed $n; done"


@can_shm
@needs_root
@pytest.mark.parametrize("closed", [True, False])
def test_a_program_opens_the_devices_that_it_was_given(open_launcher: Launcher, closed: bool) -> None:
    for number in (0, 1):
        path = open_launcher.folder / f"gpu{number}"
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))  # what /dev/null is: it can be opened without a GPU
        path.chmod(0o666)
    attempt = open_launcher.launch(
        OPENING,
        uid=UID,
        gid=UID,
        namespaces=["pid", "mount", "ipc"],
        env={"PATH": "/usr/bin:/bin", "FOLDER": str(open_launcher.folder)},
        closed_devices=[str(open_launcher.folder / "gpu1"), "/dev/no-such-device"] if closed else [],
    )
    assert attempt.ended()["exit_code"] == 0, attempt.logged()
    said = [line for line in attempt.logged().splitlines() if line.startswith(("open", "closed"))]
    assert said == ["open 0", "closed 1" if closed else "open 1"]
    assert attempt.started()["missing"] == []


@needs_root
def test_devices_that_cannot_be_closed_are_told(open_launcher: Launcher) -> None:
    attempt = open_launcher.launch("true", uid=UID, gid=UID, closed_devices=["/dev/null"])
    assert attempt.ended()["exit_code"] == 0
    assert "GPUs that it was not given" in attempt.started()["missing"][0]
