"""A cluster under a workload and a policy, event by event, planned by the real ``make_plan``.

Ends and arrivals that come within a pause are answered by one plan, as in the engine, where rings of a bell are. An
attempt that is stopped to make room ends after its grace and goes on later from its last checkpoint.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from runyard.core.resources import Resources
from runyard.core.scheduling.plan import Plan, Start, make_plan
from runyard.core.scheduling.snapshot import (
    AccountRoom,
    Balance,
    Busy,
    Head,
    NodeRoom,
    Policy,
    Promise,
    QueueClass,
    Snapshot,
)
from runyard.testing.simulator.workloads import MINUTE, Coming

FIFO = Policy(fair_share=False, backfill=False, preemption=False, small_first=False)
EASY = Policy(fair_share=False, backfill=True, preemption=False, small_first=False)
FAIR = Policy()
POLICIES: Mapping[str, Policy] = {"FIFO": FIFO, "plain EASY": EASY, "Runyard": FAIR}

GRACE_MS = 30_000
CHECKPOINT_MS = 10 * MINUTE
DEPTH = 64


@dataclass(slots=True)
class Run:
    """A run: what it still has to compute, and what was ahead of it in its account when it came (GPU-ms)."""

    id: str
    rank: int
    coming: Coming
    left_ms: int
    ahead: float
    head: Head
    wait_ms: int | None = None
    attempt: int = 0
    since_ms: int = 0
    node: str = ""
    slots: tuple[int, ...] = ()
    stopping: bool = False


@dataclass(slots=True)
class Result:
    """What came of it. ``used``: GPU-ms by account until the last arrival (``span_ms``), lost work included."""

    policy: str
    gpus: int
    span_ms: int = 0
    runs: list[Run] = field(default_factory=list[Run])
    used: dict[str, float] = field(default_factory=dict[str, float])
    plans: int = 0
    preempted: int = 0
    lost: float = 0.0


class Simulation:
    """``machines``: GPUs of each. ``see``: is shown each snapshot and its plan."""

    def __init__(
        self,
        machines: Sequence[int],
        weights: Mapping[str, float],
        policy: str,
        *,
        pause_ms: int = MINUTE,
        see: Callable[[Snapshot, Plan], None] | None = None,
    ) -> None:
        self._free = {f"n{n:05d}": list(range(gpus)) for n, gpus in enumerate(machines)}
        self._nodes = {name: _room(name, slots) for name, slots in self._free.items()}
        self._weights = weights
        self._policy = POLICIES[policy]
        self._pause = pause_ms
        self._see = see
        self._now = 0
        self._used = dict.fromkeys(weights, 0.0)
        self._held = dict.fromkeys(weights, 0)
        self._asked = dict.fromkeys(weights, 0.0)
        self._done = dict.fromkeys(weights, 0.0)
        self._waiting: dict[tuple[str, int], list[tuple[int, Run]]] = {}
        self._classes: dict[tuple[str, int], QueueClass] = {}
        self._ids: dict[tuple[str, int], int] = {}
        self._busy: dict[str, Busy] = {}
        self._running: dict[str, Run] = {}
        self._ends: list[tuple[int, str, int]] = []
        self._promises: Mapping[str, Promise] = {}
        self._balances: Mapping[str, Balance] = {}
        self.result = Result(policy, sum(machines), used=dict.fromkeys(weights, 0.0))

    def work(self, coming: Sequence[Coming], *, until_ms: int | None = None) -> Result:
        """Let all runs come and end, or stop at a time."""
        place, self.result.span_ms = 0, coming[-1].at_ms if until_ms is None else until_ms
        while place < len(coming) or self._ends:
            first = coming[place].at_ms if place < len(coming) else None
            times = [time for time in (first, self._ends[0][0] if self._ends else None) if time is not None]
            turn = min(times) + self._pause
            if until_ms is not None and turn > until_ms:
                self._pass(until_ms)
                break
            while self._ends and self._ends[0][0] <= turn:
                self._end(*heappop(self._ends))
            while place < len(coming) and coming[place].at_ms <= turn:
                self._come(coming[place])
                place += 1
            self._pass(turn)
            self._plan()
        return self.result

    def _pass(self, now: int) -> None:
        """Time goes on: what is held is used, and what was used counts less."""
        elapsed = now - self._now
        if elapsed <= 0:
            return
        decay = 0.5 ** (elapsed / self._policy.half_life_ms)
        counted = max(0, min(now, self.result.span_ms) - self._now)
        for name, held in self._held.items():
            self._used[name] = self._used[name] * decay + held * elapsed
            self._done[name] += held * elapsed
            self.result.used[name] += held * counted
        self._now = now

    def _come(self, coming: Coming) -> None:
        self._pass(coming.at_ms)
        rank = len(self.result.runs)
        ahead = self._asked[coming.account] - self._done[coming.account]
        name = f"run-{rank:07d}"
        run = Run(name, rank, coming, coming.lasts_ms, ahead, Head(name, rank, "", limit_ms=coming.limit_ms))
        self._asked[coming.account] += coming.gpus * coming.lasts_ms
        self.result.runs.append(run)
        self._queue(run)

    def _queue(self, run: Run) -> None:
        key = (run.coming.account, run.coming.gpus)
        insort(self._waiting.setdefault(key, []), (run.rank, run))
        self._classes.pop(key, None)

    def _end(self, at: int, run_id: str, attempt: int) -> None:
        run = self._running.get(run_id)
        if run is None or run.attempt != attempt:
            return
        self._pass(at)
        del self._running[run_id], self._busy[run_id]
        self._held[run.coming.account] -= run.coming.gpus
        self._free[run.node] = sorted((*self._free[run.node], *run.slots))
        self._nodes[run.node] = _room(run.node, self._free[run.node])
        if not run.stopping:
            return
        computed = min(at - run.since_ms, run.left_ms)
        kept = computed // CHECKPOINT_MS * CHECKPOINT_MS
        lost = (at - run.since_ms - kept) * run.coming.gpus
        self.result.lost += lost
        self._done[run.coming.account] -= lost
        run.left_ms -= kept
        run.stopping = False
        if run.left_ms > 0:
            self._queue(run)

    def snapshot(self) -> Snapshot:
        """What a plan is made of now."""
        for key, waiting in self._waiting.items():
            if key not in self._classes and waiting:
                account, gpus = key
                class_id = self._ids.setdefault(key, len(self._ids) + 1)
                heads = tuple(run.head for _, run in waiting[:DEPTH])
                self._classes[key] = QueueClass(class_id, account, 50, shape(gpus), heads, len(waiting))
        accounts = tuple(
            AccountRoom(name, None, self._held[name], weight=weight, used_ms=self._used[name])
            for name, weight in self._weights.items()
        )
        return Snapshot(
            self._now,
            tuple(self._nodes.values()),
            accounts,
            tuple(self._classes.values()),
            depth=DEPTH,
            busy=tuple(self._busy.values()),
            policy=self._policy,
            promises=self._promises,
            balances=self._balances,
        )

    def _plan(self) -> None:
        for _ in range(100):
            seen = self.snapshot()
            plan = make_plan(seen)
            self._promises, self._balances = plan.promises, plan.balances
            self.result.plans += 1
            if self._see is not None:
                self._see(seen, plan)
            full = {each.id for each in seen.classes if len(each.heads) == DEPTH}
            for start in plan.starts:
                self._start(start)
            for preempt in plan.preempts:
                self._stop(preempt.run_id)
            if not any(start.class_id in full for start in plan.starts):
                return

    def _start(self, start: Start) -> None:
        run = self.result.runs[int(start.run_id[4:])]
        key = (run.coming.account, run.coming.gpus)
        waiting = self._waiting[key]
        waiting.pop(next(n for n, (rank, _) in enumerate(waiting) if rank == run.rank))
        self._classes.pop(key, None)
        if run.wait_ms is None:
            run.wait_ms = self._now - run.coming.at_ms
        run.attempt += 1
        run.since_ms, run.node, run.slots = self._now, start.node_id, start.slots
        self._running[run.id] = run
        self._held[run.coming.account] += run.coming.gpus
        taken = set(start.slots)
        self._free[run.node] = [slot for slot in self._free[run.node] if slot not in taken]
        self._nodes[run.node] = _room(run.node, self._free[run.node])
        self._busy[run.id] = self._told(run, start.class_id)
        heappush(self._ends, (self._now + run.left_ms, run.id, run.attempt))

    def _told(self, run: Run, class_id: int) -> Busy:
        return Busy(
            run.id,
            run.attempt,
            class_id,
            run.coming.account,
            run.node,
            run.slots,
            shape(run.coming.gpus),
            50,
            run.since_ms,
            run.since_ms + run.coming.limit_ms,
            stopping=run.stopping,
        )

    def _stop(self, run_id: str) -> None:
        run = self._running[run_id]
        self.result.preempted += 1
        run.stopping = True
        self._busy[run_id] = self._told(run, self._busy[run_id].class_id)
        heappush(self._ends, (self._now + GRACE_MS, run.id, run.attempt))


def shape(gpus: int) -> Resources:
    """What a run of so many GPUs takes of a machine."""
    return Resources(gpus, gpus * 12_000, gpus * 96 * 1_024)


def _room(name: str, slots: Sequence[int]) -> NodeRoom:
    return NodeRoom(name, tuple(slots), shape(len(slots)))
