"""Several processes of one command: ranks, the first failure, stopping, and nothing left."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runyard.shim import fan
from tests.shim.launching import bash
from tests.support.waiting import wait_until


class Fanned:
    def __init__(self, folder: Path, command: str, count: int, grace_s: float) -> None:
        self.folder = folder
        numbers = (str(count), "4", str(grace_s))
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    "-B",
                    str(fan.__file__),
                    *numbers,
                    str(folder / fan.FAILURE),
                    *bash(command),
                ],
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def said(self) -> list[str]:
        return sorted((self.folder / "log").read_text().splitlines())

    def wait_for(self, *lines: str) -> None:
        wait_until(lambda: set(lines) <= set(self.said()), f"the lines {lines}")

    def ended(self) -> int:
        return self.process.wait(30)


def processes_of(fanned: Fanned) -> list[int]:
    """All of its session."""
    found: list[int] = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(ProcessLookupError):
            if name.isdigit() and os.getsid(int(name)) == fanned.process.pid:
                found.append(int(name))
    return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Fanned]]:
    started: list[Fanned] = []

    def begin(command: str, count: int = 2, grace_s: float = 20.0) -> Fanned:
        started.append(Fanned(tmp_path, command, count, grace_s))
        return started[-1]

    yield begin
    for each in started:
        for pid in processes_of(each):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        each.process.wait()


def test_each_has_its_ranks_and_all_must_end_well(start: Callable[..., Fanned]) -> None:
    fanned = start("echo $RANK $LOCAL_RANK", count=3)
    assert fanned.ended() == 0
    assert fanned.said() == ["4 0", "5 1", "6 2"]
    assert not (fanned.folder / fan.FAILURE).exists()


def test_one_that_ends_well_ends_nobody(start: Callable[..., Fanned]) -> None:
    fanned = start("[ $LOCAL_RANK = 0 ] || { until [ -e go ]; do sleep 0.01; done; echo late; }; echo end")
    fanned.wait_for("end")
    (fanned.folder / "go").touch()
    assert fanned.ended() == 0
    assert fanned.said() == ["end", "end", "late"]


def test_the_first_failure_ends_the_others_and_is_the_end(start: Callable[..., Fanned]) -> None:
    """The other one's shell dies of the SIGTERM at once; what it started saves its checkpoint all the same."""
    work = (
        "import signal, sys, time; signal.signal(15, lambda *_: (time.sleep(0.3), print('saved'), sys.exit(5)));"
        "print('up', flush=True); time.sleep(60)"
    )
    other = f'{sys.executable} -I -S -c "{work}"; true'
    fanned = start(f"if [ $LOCAL_RANK = 0 ]; then until [ -e go ]; do sleep 0.01; done; exit 3; else {other}; fi")
    fanned.wait_for("up")
    before = time.clock_gettime(time.CLOCK_BOOTTIME) * 1000
    (fanned.folder / "go").touch()
    assert fanned.ended() == 3
    assert fanned.said() == ["saved", "up"]
    failed = json.loads((fanned.folder / fan.FAILURE).read_text())["boottime_ms"]
    assert before - 1 <= failed <= time.clock_gettime(time.CLOCK_BOOTTIME) * 1000 - 300


def test_who_does_not_end_is_killed_after_the_grace(start: Callable[..., Fanned]) -> None:
    hang = "trap '' TERM; echo up; while :; do sleep 0.05; done"
    fanned = start(
        f"[ $LOCAL_RANK = 1 ] || {{ {hang}; }}; until [ -e go ]; do sleep 0.01; done; kill -SEGV $$", grace_s=0.3
    )
    fanned.wait_for("up")
    (fanned.folder / "go").touch()
    assert fanned.ended() == 128 + signal.SIGSEGV


def test_told_to_stop_with_all_of_its_tree_it_sends_no_second_word(start: Callable[..., Fanned]) -> None:
    """As the shim does it: a SIGTERM to every process. Each handles it once, in its own time."""
    fanned = start("trap 'echo told' TERM; echo up$LOCAL_RANK; until [ -e go ]; do sleep 0.01; done; exit $RANK")
    fanned.wait_for("up0", "up1")
    for pid in processes_of(fanned):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid) == pid:  # those that live on: not the sleep of this moment
                os.kill(pid, signal.SIGTERM)
    fanned.wait_for("told")
    (fanned.folder / "go").touch()
    assert fanned.ended() in (4, 5)
    assert fanned.said().count("told") == 2


def test_what_cannot_be_started_has_failed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(fan.__file__), "2", "0", "1", str(tmp_path / "f"), "/no/such/shell"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 127
    assert "/no/such/shell could not be started: No such file" in done.stderr
