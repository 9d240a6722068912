"""What a forked program cannot reach: its init, its warm parent, other runs, rights."""

import os
import signal
from pathlib import Path

import pytest

from runyard.shim.warm.variables import import_time_variables
from tests.shim.launching import needs_root
from tests.shim.warm.parents import Twice, Warm

ATTACK = """
import os, signal
for number in (*range(1, 32), 34, 64):
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_IGN)
        for target in (1, -1, 0):
            try:
                os.kill(target, number)
            except ProcessLookupError:
                pass
for target in (1, -1):
    try:
        os.kill(target, signal.SIGKILL)
    except ProcessLookupError:
        pass
seen = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
print(seen == [1, os.getpid()])
for path in ("/proc/1/fd/0", "/proc/1/mem", "/proc/1/environ", "/proc/1/root"):
    try:
        os.open(path, os.O_RDONLY)
    except (PermissionError, FileNotFoundError):
        continue
    print("opened", path)
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.ptrace(16, 1, 0, 0), libc.mount(b"none", b"/mnt", b"tmpfs", 0, None), libc.prctl(39, 0, 0, 0, 0))
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")])
print(os.listdir("/dev/shm"))
open("/dev/shm/mine", "w").write("x")
print(sorted(os.listdir(os.path.dirname(os.getcwd()))))
"""


def test_a_program_reaches_nothing_but_itself(slim: Twice) -> None:
    hidden = slim.folder / "other-run"
    hidden.mkdir()
    place = slim.place("warm", {"t.py": ATTACK})
    other = slim.start({"other.py": "import sys\nprint(sys.stdin.read())\nimport signal\nsignal.pause()"})
    other.go()
    other.wait_for("begun")
    program = {"script": "t.py", "args": []}
    run = slim.warm.start(place, program, slim.env(place, {}), hide=[str(slim.folder)])
    assert run.wait_for("ready") == {"ready": True, "missing": [], "view": [str(slim.folder.resolve())]}
    run.go()
    ran = run.end()
    assert ran.text.splitlines() == ["True", "-1 -1 1", f"{['0' * 16] * 5}", "[]", "['warm']"]
    assert ran.code == 0
    assert run.over is not None
    assert run.over["changed"], "the signals wait in its cell, which is used no more"
    os.kill(run.pid, signal.SIGKILL)
    os.waitpid(run.pid, 0)
    assert os.waitpid(other.pid, os.WNOHANG) == (0, 0)
    os.kill(other.pid, signal.SIGKILL)  # its init: the namespace goes with it
    assert other.end().reports[-1].get("ended") is None
    assert slim.forked({"t.py": "import os\nprint(os.listdir('/dev/shm'))"}).text == "[]\n"


def test_what_a_program_leaves_behind_ends_with_its_init(slim: Twice) -> None:
    run = slim.start(
        {"t.py": "import os, signal\nif os.fork() == 0:\n    os.setsid()\n    signal.pause()\nprint('left')"}
    )
    run.go()
    assert os.waitstatus_to_exitcode(run.wait_for("ended")["ended"]) == 0
    assert os.waitpid(run.pid, os.WNOHANG) == (0, 0)
    os.kill(run.pid, signal.SIGKILL)
    assert run.end().text == "left\n"
    assert os.WTERMSIG(run.status) == signal.SIGKILL


def test_without_leave_nothing_runs(slim: Twice) -> None:
    run = slim.start({"t.py": "open('ran', 'w')"})
    run.wait_for("ready")
    os.close(run.leave)
    run.end()
    assert not (slim.folder / "warm" / "ran").exists()


def test_runs_outlive_their_warm_parent(folder: Path) -> None:
    warm = Warm()
    run = Twice(warm, folder).start({"t.py": "print('done')"})
    run.wait_for("ready")
    warm.process.kill()
    warm.close()
    run.go()
    ran = run.end()
    assert (ran.text, ran.code) == ("done\n", 0)


def test_a_folder_that_cannot_be_entered_is_a_failed_stage(slim: Twice) -> None:
    place = slim.place("warm", {"t.py": ""})
    run = slim.warm.start(place, {"script": "t.py", "args": []}, slim.env(place, {}), cwd="/nowhere")
    failed = run.wait_for("stage")  # before it would wait for leave
    os.close(run.leave)
    assert (failed["stage"], failed["errno"]) == ("cwd", 2)
    run.end()


@needs_root
def test_a_network_of_its_own_has_the_loopback_alone(slim: Twice) -> None:
    text = "import socket\nprint(socket.if_nameindex())\ns = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen()\n"
    place = slim.place("warm", {"t.py": text + "socket.create_connection(s.getsockname(), 5)\nprint('met')"})
    order = {"network": False, "shm_mib": 3}
    run = slim.warm.start(place, {"script": "t.py", "args": []}, slim.env(place, {}), **order)
    run.go()
    assert run.end().text == "[(1, 'lo')]\nmet\n"


@pytest.mark.parametrize("namespaces", [[], ["user", "mount"]])
def test_fewer_namespaces_run_the_same_program(folder: Path, namespaces: list[str]) -> None:
    warm = Warm(namespaces=namespaces)
    ran = Twice(warm, folder).forked({"t.py": "import os, sys\nos.kill(os.getppid(), 15)\nsys.exit(6)"})
    assert (ran.text, ran.code) == ("", 6)
    warm.close()


def test_a_run_that_cannot_be_read_is_refused(slim_parent: Warm) -> None:
    slim_parent.say({"op": "run", "number": 77}, [])
    refused = slim_parent.hear()
    assert (refused["event"], refused["number"]) == ("refused", 77)
    assert "descriptors" in refused["message"]


def test_variables_that_are_read_early() -> None:
    late = {"OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "LR", "HOME", "DATA_DIR", "RANK", "LANDING"} - {"LANDING"}
    early = {"PYTHONPATH", "PYTHONHASHSEED", "LD_PRELOAD", "MKL_NUM_THREADS", "OMP_PROC_BIND", "OPENBLAS_NUM_THREADS"}
    early |= {"KMP_AFFINITY", "TORCH_LOGS", "PYTORCH_CUDA_ALLOC_CONF", "TF_XLA_FLAGS", "CUDA_LAUNCH_BLOCKING", "LC_ALL"}
    early |= {"MALLOC_ARENA_MAX", "JAX_PLATFORMS", "XLA_FLAGS", "NUMEXPR_MAX_THREADS", "GOMP_CPU_AFFINITY"}
    assert import_time_variables(late | early) == sorted(early)
    assert import_time_variables({}) == []
