"""What an installation has to do while it is watched: runs of all kinds, and people who look."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from bench.yard import PROGRAMS, Batch, Yard, manifest, parameters
from runyard.client import Client, Reconnected, WhichLog
from runyard.client.errors import ClientError, TimedOut

TRIVIAL, STEADY = 24, 2
CANCEL_AFTER_S = 4.0
FAILING = 3
"""The exit code of those that are to fail."""
LATEST_S = 120.0


@dataclass(slots=True)
class Done:
    """What was asked for, and what came of it."""

    runs: int = 0
    states: Counter[str] = field(default_factory=Counter[str])
    looks: int = 0
    events: int = 0
    lines: int = 0
    problems: list[str] = field(default_factory=list[str])


class Load:
    """Every few seconds some trivial runs, two that print and tell metrics, one that fails, one that is canceled."""

    def __init__(self, yard: Yard, done: Done) -> None:
        self._yard, self.done = yard, done
        self._over = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._listen, self._follow)]
        self._latest = ""

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def period(self, seconds: float) -> None:
        """One turn; takes about so long."""
        ends = time.monotonic() + seconds
        steady = self._submit("steady", parameters(STEADY, seconds=5))
        self._latest = steady.ids[0]
        self._submit("trivial", parameters(TRIVIAL))
        self._submit("steady", [{"seconds": 1, "code": FAILING}])
        doomed = self._submit("steady", [{"seconds": 60}]).ids[0]
        time.sleep(min(CANCEL_AFTER_S, seconds * 0.4))
        self._yard.client.cancel(doomed)
        while time.monotonic() < ends:
            self._look()
            time.sleep(0.5)

    def end(self) -> None:
        """Wait until nothing runs any more, and count."""
        deadline = time.monotonic() + LATEST_S
        open_states = ("waiting", "starting", "running", "stopping", "storing")
        while next(self._yard.client.runs(states=open_states, limit=1), None) and time.monotonic() < deadline:
            time.sleep(0.5)
        self._over.set()
        runs = list(self._yard.client.runs())
        self.done.states = Counter(run.state for run in runs)
        wrong = [run for run in runs if run.state == "failed" and run.exit_code != FAILING]
        self.done.problems += [f"{len(wrong)} failed otherwise: {run.id}, {run.sentence}" for run in wrong[:1]]

    def _submit(self, name: str, given: list[dict[str, object]]) -> Batch:
        batch = self._yard.submit(PROGRAMS / name, manifest(name), given)
        self.done.runs += len(batch.ids)
        return batch

    def _look(self) -> None:
        """What a person with the command line does."""
        client = self._yard.client
        page = list(client.runs(limit=50))
        client.explain(page[-1].id)
        client.history(page[0].id)
        client.metrics(self._latest, points=True)
        client.log(self._latest, WhichLog())
        self.done.looks += 1

    def _listen(self) -> None:
        """One who follows all events, from the beginning to the end."""
        client = Client(self._yard.client.url, (self._yard.home / "token").read_text().strip())
        while not self._over.is_set():
            with self._noting():
                for event in client.events(self._yard.seq, deadline=time.monotonic() + 30):
                    if not isinstance(event, Reconnected):
                        self._yard.seq = event.seq
                        self.done.events += 1

    def _follow(self) -> None:
        """One who follows the log of one run after the other."""
        client = Client(self._yard.client.url, (self._yard.home / "token").read_text().strip())
        followed = ""
        while not self._over.wait(0.2):
            if self._latest == followed:
                continue
            followed = self._latest
            with self._noting():
                self.done.lines += sum(1 for _ in client.follow(followed))

    @contextlib.contextmanager
    def _noting(self):
        try:
            yield
        except TimedOut:
            pass
        except (ClientError, OSError) as error:
            self.done.problems.append(f"{type(error).__name__}: {error}")
