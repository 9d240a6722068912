"""A played machine: orders become facts, at times of a clock that is moved by hand. No process is started."""

from __future__ import annotations

import random
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from msgspec import structs

from runyard.core.metrics import Series
from runyard.core.reasons import Reason
from runyard.ports.executor import LaunchRequest, StageRequest
from runyard.wire import facts
from runyard.wire.points import encode

Attempt = tuple[str, int]
At = Callable[[int, Callable[[], object]], None]
"""Have something done so many milliseconds from now."""

STAGED = 64
"""Specs that a machine's cache has room for."""
LOG = b"epoch %d of 5: loss falls, nothing to be seen here\n"
LENGTH_MS = (10_000, 150_000)


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What a program has logged and measured: on its way to the server before the fact that it ended."""

    run: str
    attempt: int
    log: bytes
    points: bytes


class Machine:
    """What one machine holds; what it has ``said`` waits there for the server to hear it."""

    def __init__(self, name: str, at: At, chance: random.Random, now_ms: Callable[[], int]) -> None:
        self.name, self._at, self._chance, self._now_ms = name, at, chance, now_ms
        self.held: dict[Attempt, LaunchRequest] = {}
        self.grants: dict[int, deque[Attempt]] = {}
        self.staged: OrderedDict[int, None] = OrderedDict()
        self.storing: set[str] = set()
        self.said: list[facts.Fact | Telemetry] = []
        self.connected = False

    # orders

    def stage(self, request: StageRequest) -> None:
        """Make a spec ready; a few fail, by the platform's fault or the user's."""
        spec, dice = request.spec_id, self._chance.random()
        if not request.guessed and dice < 0.3:
            self._at(1_000, lambda: self._say(facts.StageProgress(spec, 1 << 20, 3 << 20)))
        if not request.guessed and dice < 0.03:
            reason = Reason.staging_failed if dice < 0.02 else Reason.code_invalid
            self._at(3_000, lambda: self._say(facts.StageFailed(spec, reason.value, "It broke.", "broken\n")))
            return
        self._at(2_000, lambda: self._is_staged(spec))
        if dice > 0.98:  # a word about it that comes too late
            self._at(40_000, lambda: self._say(facts.StageProgress(spec, 3 << 20, 3 << 20)))

    def _is_staged(self, spec: int) -> None:
        self.staged[spec] = None
        if len(self.staged) > STAGED:
            self.staged.popitem(last=False)
        self._say(facts.Staged(spec, 3 << 20))

    def launch(self, request: LaunchRequest) -> None:
        """Start a program, or hold a grant until there is room for it."""
        attempt = (request.run_id, request.attempt)
        if attempt in self.held:
            return
        self.held[attempt] = request
        if request.hold_ms:
            self.grants.setdefault(request.queue_class, deque()).append(attempt)
            self._at(request.hold_ms, lambda: self._decline(attempt))
        else:
            self._begin(attempt, request)

    def stop(self, run: str, number: int, cause: str) -> None:
        """End a program, or give a grant back."""
        attempt = (run, number)
        if attempt in self.held and not self._decline(attempt):
            self._at(2_000, lambda: self._end(attempt, facts.Exited(run, number, self._now_ms(), None, 15, cause)))

    def store(self, run: str) -> None:
        """Upload; a few tries fail before one goes well."""
        if run not in self.storing:
            self.storing.add(run)
            if self._chance.random() < 0.04:
                self._at(1_000, lambda: self._say(facts.StoreFailed(run, "The store did not answer.")))
            self._at(self._chance.randrange(500, 6_000), lambda: self._is_stored(run))

    def _is_stored(self, run: str) -> None:
        if run in self.storing:
            self.storing.discard(run)
            self._say(facts.Stored(run, 4, 200_000))

    def release(self, run: str) -> None:
        """The run is final."""
        self.storing.discard(run)
        for attempt in [each for each in self.held if each[0] == run]:
            self._drop(attempt)

    def keep_only(self, runs: frozenset[str]) -> None:
        """These are the machine's own, and no others."""
        for run in {each[0] for each in self.held} - runs:
            self.release(run)
        self.storing &= runs

    # programs

    def _begin(self, attempt: Attempt, request: LaunchRequest) -> None:
        run, number = attempt
        if request.stage.spec_id not in self.staged and self._chance.random() < 0.2:
            broken = facts.Exited(run, number, self._now_ms(), launch_error="Its code and data are not here.")
            self._at(300, lambda: self._end(attempt, broken))
            return
        self._at(200, lambda: self._say_if(attempt, facts.Began(run, number, self._now_ms(), "warm")))
        if self._chance.random() < 0.01:
            self._at(5_000, lambda: self._say_if(attempt, facts.Quiet(run, number, "idle", self._now_ms())))
        if self._chance.random() < 0.002:
            self._at(6_000, lambda: self._say_if(attempt, facts.GpuError(run, number, "A GPU has told of an error.")))
        self._at(self._chance.randrange(*LENGTH_MS), lambda: self._end(attempt, self._outcome(run, number)))

    def _outcome(self, run: str, number: int) -> facts.Exited | facts.Lost:
        dice, now = self._chance.random(), self._now_ms()
        if dice < 0.01:
            return facts.Lost(run, number, Reason.shim_lost.value, "Its parent is gone.")
        if dice < 0.02:
            return facts.Exited(run, number, now, None, 9, oom_kills=1)
        return facts.Exited(run, number, now, 1 if dice < 0.07 else 0, log_bytes=200, peak_memory_mib=300)

    def _end(self, attempt: Attempt, outcome: facts.Exited | facts.Lost) -> None:
        """An attempt ends, and the first grant of its class takes its room."""
        request = self.held.pop(attempt, None)
        if request is None:
            return
        if isinstance(outcome, facts.Exited) and outcome.launch_error is None:
            self.said.append(Telemetry(*attempt, b"".join(LOG % epoch for epoch in range(5)), points()))
        waiting = self.grants.get(request.queue_class)
        if waiting and request.hold_ms == 0:
            taken = waiting.popleft()
            then = self.held[taken]
            self._say(structs.replace(outcome, then=facts.Then(*taken)))
            self._began_after(taken, then)
        else:
            self._say(outcome)

    def _began_after(self, attempt: Attempt, request: LaunchRequest) -> None:
        started = replace(request, hold_ms=0)
        self.held[attempt] = started
        self._tidy(request.queue_class)
        self._begin(attempt, started)

    def _decline(self, attempt: Attempt) -> bool:
        request = self.held.get(attempt)
        if request is None or request.hold_ms == 0:
            return False
        self._drop(attempt)
        self._say(facts.Declined(*attempt))
        return True

    def _drop(self, attempt: Attempt) -> None:
        request = self.held.pop(attempt)
        waiting = self.grants.get(request.queue_class)
        if waiting is not None and attempt in waiting:
            waiting.remove(attempt)
            self._tidy(request.queue_class)

    def _tidy(self, queue_class: int) -> None:
        if not self.grants.get(queue_class):
            self.grants.pop(queue_class, None)

    def _say_if(self, attempt: Attempt, fact: facts.Fact) -> None:
        if attempt in self.held:
            self._say(fact)

    def _say(self, fact: facts.Fact) -> None:
        self.said.append(fact)


def points() -> bytes:
    """Five points of two metrics, as the recorder writes them."""
    steps, times = array("q", range(5)), array("q", range(5))
    falls, rises = array("d", [1.0, 0.5, 0.3, 0.2, 0.1]), array("d", [0.1, 0.4, 0.6, 0.7, 0.8])
    return encode([Series("", "loss", steps, times, falls), Series("", "accuracy", steps, times, rises)], {}, ())
