"""Programs forked by a warm parent, in the real installation: the same as under bash, and safe whatever dies."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runyard.client import Run
from tests.support.installation import Installation, children_of, cmdline, manifest, running_installation, write_code
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.story, pytest.mark.timeout(300)]

LOOK = """\
import io, json, os, signal, stat, sys
seen = {
    "argv": sys.argv,
    "path": sys.path,
    "executable": sys.executable,
    "prefix": sys.prefix,
    "main": sorted(name for name in vars(sys.modules["__main__"]) if name.startswith("__")),
    "file": __file__,
    "env": dict(os.environ),
    "cwd": os.getcwd(),
    "ids": [os.getuid(), os.getgid(), os.getgroups()],
    "umask": os.umask(0o022),
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:3],
    "stdin": stat.S_ISCHR(os.fstat(0).st_mode),
    "append": bool(__import__("fcntl").fcntl(1, __import__("fcntl").F_GETFL) & os.O_APPEND),
    "unbuffered": [sys.stdout.write_through, type(sys.stdout.buffer).__name__, repr(sys.flags)],
    "term": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
    "session": os.getsid(0) == os.getpid(),
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit())[:2],
    "modules_of_ours": sorted(name for name in sys.modules if name.startswith("runyard")),
}
print("SEEN", json.dumps(seen))
"""
NUMBERS = """\
import os, sys, time
for number in range(40):
    os.write(1, b"line %d\\n" % number)
    time.sleep(0.1)
print("no newline at the end", end="")
sys.exit(7)
"""


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with running_installation(tmp_path_factory.mktemp("warm"), "--fake-gpus", "2") as installation:
        yield installation


def submit(yard: Installation, code: str, text: str, command: str, *, warm: str = "auto") -> str:
    write_code(yard.folder / code, {"train.py": text})
    extra = f"runyard: {{warm: {warm}, grace: 1s}}\n"
    (yard.folder / f"{code}.yml").write_text(manifest(command, extra=extra))
    return str(yard.json("train", code, f"{code}.yml")["ids"][0])


def warm_one(yard: Installation, code: str, text: str, command: str = "python3 train.py --lr 0.1 'a b'") -> Run:
    """A finished run that was forked; the first ones of a fresh installation are not."""
    deadline = time.monotonic() + 60
    while True:
        run = yard.client().wait([submit(yard, code, text, command)], timeout=100)[0]
        if run.attempts[-1].way == "warm":
            return run
        assert time.monotonic() < deadline, run.attempts[-1].way_note


def log_of(yard: Installation, run: str) -> str:
    return yard.cli("logs", run).stdout


def seen_by(yard: Installation, run: Run) -> dict[str, Any]:
    """What the program saw; its run's own id and its port are taken out."""
    line = next(line for line in log_of(yard, run.id).splitlines() if line.startswith("SEEN "))
    seen: dict[str, Any] = json.loads(line.removeprefix("SEEN ").replace(run.id, "RUN"))
    del seen["env"]["MASTER_PORT"]
    return seen


def processes_above(yard: Installation) -> dict[str, int]:
    """The shim of a warm parent, and the parent, by pid."""
    found: dict[str, int] = {}
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        line = cmdline(pid)
        if "shim.py --warm" in line and str(yard.home) in environment_of_children(pid):
            found["shim"] = pid
            found["parent"] = next(child for child in children_of(pid) if "warm/parent.py" in cmdline(child))
    return found


def environment_of_children(pid: int) -> str:
    texts: list[str] = []
    for child in children_of(pid):
        try:
            texts.append(Path(f"/proc/{child}/environ").read_text(errors="replace"))
        except OSError:
            continue
    return " ".join(texts)


def running(yard: Installation, run: str) -> Run:
    """The run once its program has written a few lines."""
    wait_until(lambda: "line 3" in log_of(yard, run), "some lines", 60)
    return yard.client().run(run)


def check_numbers(yard: Installation, run: Run) -> None:
    assert (run.state, run.exit_code) == ("failed", 7)
    lines = log_of(yard, run.id)
    assert [line for line in lines.splitlines() if line.startswith("line ")] == [f"line {n}" for n in range(40)]
    assert "no newline at the end" in lines


def test_a_forked_program_sees_what_it_sees_under_bash(yard: Installation) -> None:
    forked = warm_one(yard, "look", LOOK)
    assert "spares it the start of the interpreter" in forked.attempts[-1].way_note
    command = "python3 train.py --lr 0.1 'a b'"
    slow = yard.client().wait([submit(yard, "look", LOOK, command, warm="off")], timeout=100)[0]
    assert (slow.attempts[-1].way, slow.state) == ("exec", "completed"), log_of(yard, slow.id)
    assert slow.attempts[-1].way_note == "Started by bash: the manifest says `warm: off`."
    assert seen_by(yard, forked) == seen_by(yard, slow)
    shown = yard.cli("show", forked.id).stdout
    assert "warm. Forked from a warm parent" in shown


def test_what_only_bash_can_run_says_so(yard: Installation) -> None:
    run = yard.client().wait([submit(yard, "pipe", "print('x')", "python3 train.py | cat")], timeout=100)[0]
    assert (run.state, run.attempts[-1].way) == ("completed", "exec")
    assert run.attempts[-1].way_note == "Started by bash: the command has a pipe."


def test_programs_outlive_their_parent_and_the_node(yard: Installation) -> None:
    warm_one(yard, "nothing", "pass", "python3 train.py")
    ids = [submit(yard, f"numbers{number}", NUMBERS, "python3 train.py") for number in range(2)]
    assert [running(yard, run).attempts[-1].way for run in ids] == ["warm", "warm"]
    above = processes_above(yard)
    os.kill(above["parent"], signal.SIGKILL)
    yard.kill("node")
    yard.wait_connected()
    for run in yard.client().wait(ids, timeout=100):
        assert len(run.attempts) == 1
        check_numbers(yard, run)
    wait_until(lambda: cmdline(above["shim"]) == "", "the end of a shim that has nothing to do", 30)
    assert warm_one(yard, "nothing", "pass", "python3 train.py").state == "completed"


def test_a_shim_that_dies_takes_its_programs_along_and_they_run_again(yard: Installation) -> None:
    warm_one(yard, "nothing", "pass", "python3 train.py")
    run = submit(yard, "numbers3", NUMBERS, "python3 train.py")
    running(yard, run)
    os.kill(processes_above(yard)["shim"], signal.SIGKILL)
    ended = yard.client().wait([run], timeout=100)[0]
    assert [attempt.reason for attempt in ended.attempts] == ["shim_lost", "nonzero_exit"]
    check_numbers(yard, ended)


def test_a_forked_program_is_stopped_with_all_it_started(yard: Installation) -> None:
    warm_one(yard, "nothing", "pass", "python3 train.py")
    stubborn = "import os, signal, time\nsignal.signal(15, signal.SIG_IGN)\nos.fork()\nprint('line 3', flush=True)\n"
    run = submit(yard, "stubborn", stubborn + "time.sleep(600)\n", "python3 train.py")
    assert running(yard, run).attempts[-1].way == "warm"
    yard.cli("cancel", run)
    ended = yard.client().wait([run], timeout=100)[0]
    assert (ended.state, ended.reason) == ("canceled", "canceled")
