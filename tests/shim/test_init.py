"""The init of a run, as a plain process and as process 1 of a namespace, with real programs."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.shim.launching import needs_root

SOURCE = Path(__file__).resolve().parents[2] / "src"
CLONE_NEWPID = 0x20000000
HARNESS = """
import os, sys
sys.path.insert(0, {source!r})
from runyard.shim import init
status, release = int(sys.argv[1]), int(sys.argv[2])
def become(birth):
    {become}
if {user} is not None:
    os.setgroups([]), os.setgid({user}), os.setuid({user})
init.serve(status, release, {{"missing": [], "view": []}}, become)
"""
EXECUTE = 'os.execve("/bin/bash", ["bash", "-c", sys.argv[3]], {"PATH": "/usr/bin:/bin"})'


class Started:
    """An init under test: what it says, and leave for it."""

    def __init__(self, command: str, become: str = EXECUTE, *, namespace: bool, user: int | None = None) -> None:
        heard, status = os.pipe()
        release, self.leave = os.pipe()
        text = HARNESS.format(source=str(SOURCE), become=textwrap.indent(become, "    ").strip(), user=user)
        libc = ctypes.CDLL(None)
        arguments = [str(status), str(release), command]
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", "import os,sys\n" + FORKING + text if namespace else text, *arguments],
            pass_fds=(status, release),
            stdout=subprocess.PIPE,
            preexec_fn=(lambda: libc.unshare(CLONE_NEWPID)) if namespace else None,
        )
        os.close(status)
        os.close(release)
        self.lines = os.fdopen(heard)

    def hear(self) -> dict[str, Any] | None:
        line = self.lines.readline()
        return json.loads(line) if line else None

    def go(self) -> None:
        os.write(self.leave, b"1")
        os.close(self.leave)

    def end(self) -> int:
        """Its exit code, once it is gone."""
        self.lines.close()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(30)


FORKING = """
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
assert os.getpid() == 1
"""
"""The namespace holds the children of the process that made it: the first of them is its init."""


@pytest.fixture(params=["plain", pytest.param("namespace", marks=needs_root)])
def namespace(request: pytest.FixtureRequest) -> bool:
    """Whether it is process 1 of a namespace."""
    return request.param == "namespace"


def test_it_tells_the_end_of_the_program_and_stays_for_what_is_left(namespace: bool) -> None:
    run = Started('read -t 20 <> <(:) & echo "$!"; exit 7', namespace=namespace)
    assert run.hear() == {"ready": True, "missing": [], "view": []}
    run.go()
    assert run.hear() == {"begun": True}
    ended = run.hear()
    assert ended is not None
    assert os.waitstatus_to_exitcode(ended["ended"]) == 7
    assert ended["max_rss_kib"] > 500
    assert 0 < ended["user_cpu_s"] + ended["system_cpu_s"] < 10
    assert run.process.poll() is None  # the reader in the background lives
    assert run.process.stdout is not None
    left = int(run.process.stdout.readline())
    if namespace:
        run.process.kill()
        assert run.process.wait(30) == -signal.SIGKILL
    else:
        os.kill(left, signal.SIGKILL)
        assert run.process.wait(30) == 0
    run.end()


def test_a_program_that_cannot_be_executed_is_a_failed_stage(namespace: bool) -> None:
    become = 'birth.stage = "cwd"\nos.chdir("/nowhere")'
    run = Started("", become, namespace=namespace)
    run.hear()
    run.go()
    failed = run.hear()
    assert failed is not None
    assert (failed["stage"], failed["errno"]) == ("cwd", 2)
    assert "No such file" in failed["message"]
    run.hear()
    assert run.end() == 0


def test_without_leave_nothing_runs(namespace: bool, tmp_path: Path) -> None:
    run = Started(f"touch {tmp_path}/ran", namespace=namespace)
    run.hear()
    os.close(run.leave)
    assert run.hear() is None
    assert run.end() == 127
    assert not (tmp_path / "ran").exists()


def test_a_program_that_is_killed_tells_its_signal(namespace: bool) -> None:
    run = Started("kill -9 $$", namespace=namespace)
    run.hear()
    run.go()
    assert run.hear() == {"begun": True}
    ended = run.hear()
    assert ended is not None
    assert os.waitstatus_to_exitcode(ended["ended"]) == -signal.SIGKILL
    assert run.end() == 0


ATTACK = r"""
for n in 1 2 3 10 12 15 34 64; do kill -$n $PPID; done
ls /proc/$PPID/fd > /dev/null 2>&1 && test $(id -u) != 0 && echo opened
grep -c x /proc/$PPID/mem > /dev/null 2>&1 && echo read
ls -l /proc/self/fd | grep -c pipe
exit 3
"""


def test_a_program_reaches_neither_its_signals_nor_its_descriptors(namespace: bool) -> None:
    run = Started(ATTACK, namespace=namespace, user=50001 if os.geteuid() == 0 else None)
    run.hear()
    run.go()
    assert run.hear() == {"begun": True}
    ended = run.hear()
    assert ended is not None
    assert os.waitstatus_to_exitcode(ended["ended"]) == 3
    assert run.process.stdout is not None
    assert run.process.stdout.read().split() == [b"1"]  # of ls, to grep
    assert run.end() == 0
