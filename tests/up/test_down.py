"""How long `down --cancel-runs` waits."""

from __future__ import annotations

from collections.abc import Sequence

from runyard.client import Run, TimedOut
from runyard.up.down import wait_for_ends


class Played:
    """A service whose runs go on with every wait that ends in vain."""

    def __init__(self, lives: dict[str, list[str]]) -> None:
        self._lives = lives
        self.waited: list[list[str]] = []

    def wait(self, runs: Sequence[str], timeout: float | None = None) -> list[Run]:
        """Time out, unless all are final."""
        ids = list(runs)
        self.waited.append(ids)
        for each in ids:
            if len(self._lives[each]) > 1:
                self._lives[each].pop(0)
        found = [self.run(each) for each in ids]
        if not all(run.final for run in found):
            raise TimedOut("not yet")
        return found

    def run(self, run: str) -> Run:
        """As it is now."""
        return Run.of({"id": run, "state": self._lives[run][0]})


def test_what_ends_is_waited_for_however_long_it_takes() -> None:
    played = Played({"a": ["running", "stopping", "stopping", "storing", "canceled"], "b": ["stopping", "canceled"]})
    assert wait_for_ends(played, ["a", "b"], 60) == 0
    assert played.waited == [["a", "b"], ["a"], ["a"], ["a"]]


def test_what_only_stores_and_does_not_end_is_left_to_it() -> None:
    played = Played({"a": ["storing"] * 9, "b": ["storing"] * 9, "c": ["stopping", "storing", "canceled"]})
    assert wait_for_ends(played, ["a", "b", "c"], 60) == 2
    assert played.waited == [["a", "b", "c"], ["a", "b", "c"], ["a", "b"]]


def test_nothing_to_wait_for() -> None:
    assert wait_for_ends(Played({}), [], 60) == 0
