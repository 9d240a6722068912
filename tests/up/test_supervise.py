"""Children are kept running, started again with back-off, and started and stopped in the order given."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runyard.standby import LOST
from runyard.up.supervise import GAVE_WAY, Child, backoff_s
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Kept:
    """A supervisor that runs, and what its children noted."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def said(self) -> str:
        """What the supervisor has said so far."""
        return (self.folder / "said").read_text()

    def notes(self, what: str) -> list[tuple[str, int]]:
        """Name and pid of each note of a kind, in order."""
        try:
            lines = (self.folder / "notes").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(line.split()[1], int(line.split()[2])) for line in lines if line.startswith(what)]

    def stop(self, number: int = signal.SIGTERM) -> str:
        """End it; returns what it said."""
        self.process.send_signal(number)
        self.process.wait(30)
        assert self.process.returncode == 0, self.said
        return self.said


@contextlib.contextmanager
def keeping(folder: Path, way: str, *names: str) -> Iterator[Kept]:
    """A supervisor of these children in a process of its own; ``way``: forked or executed."""
    argv = [sys.executable, "-m", "tests.up.keeping", str(folder), way, *names]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = (folder / "said").open("wb")
    with said, subprocess.Popen(argv, cwd=ROOT, env=environment, stderr=said) as process:
        kept = Kept(process, folder)
        try:
            yield kept
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(30)


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


WAYS = pytest.mark.parametrize("way", ["forked", "executed"])


@WAYS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_children_are_stopped_in_the_order_given(tmp_path: Path, number: int, way: str) -> None:
    with keeping(tmp_path, way, "node", "server") as kept:
        wait_until(lambda: len(kept.notes("began")) == 2, "both began")
        pids = [pid for _, pid in kept.notes("began")]
        kept.stop(number)
        assert [name for name, _ in kept.notes("stopped")] == ["node", "server"]
        assert all(gone(pid) for pid in pids)


@WAYS
def test_a_child_that_was_killed_is_there_again(tmp_path: Path, way: str) -> None:
    with keeping(tmp_path, way, "server", "node") as kept:
        wait_until(lambda: len(kept.notes("began")) == 2, "both began")
        before = dict(kept.notes("began"))
        os.kill(before["server"], signal.SIGKILL)
        wait_until(lambda: len(kept.notes("began")) == 3, "another server")
        name, pid = kept.notes("began")[-1]
        assert name == "server"
        assert pid != before["server"]
        assert not gone(before["node"]), "the other goes on"
        said = kept.stop()
        assert "server ended with status -9; it is started again (see " in said


@WAYS
def test_a_child_that_dies_at_once_is_started_again_less_and_less_often(tmp_path: Path, way: str) -> None:
    with keeping(tmp_path, way, "quick", "node") as kept:
        begin = time.monotonic()
        wait_until(lambda: len([n for n, _ in kept.notes("began") if n == "quick"]) >= 5, "five tries")
        assert time.monotonic() - begin >= 0.1 + 0.2 + 0.4, "pauses between them"
        kept.stop()
        assert json.loads((tmp_path / "deaths").read_text())["quick"] >= 4
        assert [name for name, _ in kept.notes("stopped")] == ["node"]


@WAYS
def test_a_child_that_cannot_be_started_ends_nobody_else(tmp_path: Path, way: str) -> None:
    with keeping(tmp_path, way, "node", "missing") as kept:
        wait_until(lambda: len(kept.notes("began")) == 1, "the other began")
        wait_until(lambda: "missing could not be started" in kept.said, "it was tried")
        kept.stop()
        assert [name for name, _ in kept.notes("stopped")] == ["node"]


@WAYS
def test_children_end_with_a_supervisor_that_was_killed(tmp_path: Path, way: str) -> None:
    with keeping(tmp_path, way, "server", "node") as kept:
        wait_until(lambda: len(kept.notes("began")) == 2, "both began")
        kept.process.kill()
        wait_until(lambda: len(kept.notes("stopped")) == 2, "both were told to stop")


def test_the_pauses() -> None:
    assert [backoff_s(deaths) for deaths in (0, 1, 2, 3, 4)] == [0.0, 0.0, 0.1, 0.2, 0.4]
    assert backoff_s(10) == backoff_s(10_000) == 5.0


def test_who_gave_way_is_started_at_once_however_often_it_died_before(tmp_path: Path) -> None:
    """Of two servers the one that was stopped stands by as soon as it goes on, in the midst of other deaths, too."""
    child = Child("server", "runyard.server", [], tmp_path / "log", began=time.monotonic() - 3, deaths=8)
    child.died(GAVE_WAY)
    assert (child.deaths, child.due, child.process) == (0, 0.0, None)
    assert GAVE_WAY == LOST


def test_who_gives_way_as_soon_as_it_begins_is_not_started_without_a_pause(tmp_path: Path) -> None:
    child = Child("server", "runyard.server", [], tmp_path / "log", began=time.monotonic(), deaths=2)
    child.died(GAVE_WAY)
    assert child.deaths == 3
    assert child.due > time.monotonic()


def test_a_death_after_a_long_life_is_the_first_again(tmp_path: Path) -> None:
    child = Child("server", "runyard.server", [], tmp_path / "log", began=time.monotonic() - 60, deaths=7)
    child.died(1)
    assert (child.deaths, child.process) == (1, None)
    assert child.due <= time.monotonic()
