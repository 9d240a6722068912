"""A whole yard in memory: machines, accounts and runs that queue, start, fail, come back and end. No clock but its own.

It plans with ``make_plan``, moves its runs with the life cycle and keeps the ledger; it looks at what it has after each
step, so that a test only has to let it work.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from runyard.core import lifecycle
from runyard.core.lifecycle import Exit, RetryPolicy, Transition
from runyard.core.metering import LedgerEntry, settle
from runyard.core.resources import Price, Resources
from runyard.core.run import FINAL, HOLDS_SLOT, Run, Waiting
from runyard.core.scheduling.plan import make_plan
from runyard.core.scheduling.snapshot import AccountRoom, Head, NodeRoom, QueueClass, Snapshot
from tests.core.builders import T0, checked, new_run

ONE = Resources(1, 1_000, 1_024)
"""One GPU, one CPU, one GiB."""


@dataclass(frozen=True, slots=True)
class Job:
    """A run to come: when, whose, how big, how long each attempt takes and with which exit code it ends (the last
    one again for any attempt after it; None: its machine dies)."""

    at_ms: int = 0
    account: str = "acme"
    priority: int = 50
    shape: Resources = ONE
    node: str = "n1"
    lasts_ms: int = 1_000
    ends: tuple[int | None, ...] = (0,)
    max_retries: int = 0


@dataclass(slots=True)
class Yard:
    """``nodes``: what each machine has; ``quotas``: GPUs by account. ``heads``: how many of a class a plan sees."""

    nodes: dict[str, Resources]
    quotas: dict[str, int | None]
    heads: int = 64
    policy: RetryPolicy = field(default_factory=lambda: RetryPolicy(3, 100, 1_000))
    price: Price = field(default_factory=lambda: Price(3_600_000, 360_000, 36_000))
    now: int = T0
    runs: dict[str, Run] = field(default_factory=dict[str, Run])
    jobs: dict[str, Job] = field(default_factory=dict[str, Job])
    started: list[str] = field(default_factory=list[str])
    ledger: list[LedgerEntry] = field(default_factory=list[LedgerEntry])
    waits: dict[str, str] = field(default_factory=dict[str, str])
    _ends: list[tuple[int, str, int]] = field(default_factory=list[tuple[int, str, int]])
    _classes: dict[tuple[str, int, Resources], int] = field(default_factory=dict[tuple[str, int, Resources], int])

    def work(self, jobs: Sequence[Job], *, until: int | None = None) -> None:
        """Take the jobs as they come and let everything end (or stop at ``until``, ms after the beginning)."""
        coming = sorted(jobs, key=lambda job: job.at_ms)
        for _ in range(100_000):
            while coming and T0 + coming[0].at_ms <= self.now:
                self._accept(coming.pop(0))
            wake_at = self._dispatch()
            self._look()
            times = [end[0] for end in self._ends[:1]] + [T0 + job.at_ms for job in coming[:1]]
            times += [wake_at] if wake_at is not None else []
            if not times or (until is not None and min(times) > T0 + until):
                return
            self.now = min(times)
            self._end_what_is_due()
        raise AssertionError("the yard goes round in circles")

    def _accept(self, job: Job) -> None:
        key = (job.account, job.priority, job.shape)
        class_id = self._classes.setdefault(key, len(self._classes) + 1)
        run = new_run(
            len(self.runs) + 1,
            account_id=job.account,
            priority=job.priority,
            resources=job.shape,
            class_id=class_id,
            max_retries=job.max_retries,
            created_ms=self.now,
        )
        self.jobs[run.id] = job
        self._apply(run, lifecycle.staged(run, job.node, self.now))

    def _apply(self, run: Run, transition: Transition | None) -> Run:
        done = checked(run, transition)
        if done.settled is not None:
            self.ledger.append(settle(done.after, done.settled, self.price))
        self.runs[run.id] = done.after
        return done.after

    def _holders(self) -> list[Run]:
        return [run for run in self.runs.values() if run.state_name in HOLDS_SLOT]

    def snapshot(self) -> Snapshot:
        """What a plan is made of now."""
        holders = self._holders()
        nodes: list[NodeRoom] = []
        for name, total in self.nodes.items():
            here = [run for run in holders if run.attempts[-1].node_id == name]
            taken = {slot for run in here for slot in run.attempts[-1].slots}
            free = total - sum((run.resources for run in here), Resources())
            nodes.append(NodeRoom(name, tuple(s for s in range(total.gpus) if s not in taken), free))
        accounts = tuple(
            AccountRoom(name, quota, sum(run.resources.gpus for run in holders if run.account_id == name))
            for name, quota in self.quotas.items()
        )
        return Snapshot(self.now, tuple(nodes), accounts, self._queue())

    def _queue(self) -> tuple[QueueClass, ...]:
        waiting: dict[int, list[Run]] = {}
        for run in sorted(self.runs.values(), key=lambda run: run.rank):
            if isinstance(run.state, Waiting):
                waiting.setdefault(run.class_id, []).append(run)
        return tuple(
            QueueClass(
                class_id,
                runs[0].account_id,
                runs[0].priority,
                runs[0].resources,
                tuple(
                    Head(run.id, run.rank, run.ready_on or "", run.state.not_before_ms)
                    for run in runs[: self.heads]
                    if isinstance(run.state, Waiting)
                ),
            )
            for class_id, runs in waiting.items()
        )

    def _dispatch(self) -> int | None:
        while True:
            plan = make_plan(self.snapshot())
            self.waits = {run_id: kind.value for run_id, (kind, _) in plan.heads.items()}
            if not plan.starts:
                return plan.wake_at_ms
            for start in plan.starts:
                run = self.runs[start.run_id]
                run = self._apply(run, lifecycle.assign(run, start.node_id, start.slots, self.now))
                self._apply(run, lifecycle.begun(run, len(run.attempts), self.now, self.now))
                lasts = self.jobs[run.id].lasts_ms
                heapq.heappush(self._ends, (self.now + lasts, run.id, len(run.attempts)))
                self.started.append(run.id)

    def _end_what_is_due(self) -> None:
        while self._ends and self._ends[0][0] <= self.now:
            _, run_id, number = heapq.heappop(self._ends)
            run, ends = self.runs[run_id], self.jobs[run_id].ends
            code = ends[min(number, len(ends)) - 1]
            if code is None:
                fact = lifecycle.lost(run, number, lifecycle.Reason.node_lost, "", self.policy, self.now)
            else:
                fact = lifecycle.ended(run, number, Exit(self.now, code, None), self.policy, self.now)
            run = self._apply(run, fact)
            if not isinstance(run.state, Waiting):
                self._apply(run, lifecycle.stored(run, self.now, 1, 1))

    def _look(self) -> None:
        """Nothing is oversubscribed, no slot held twice, no quota exceeded: now."""
        for name, total in self.nodes.items():
            here = [run for run in self._holders() if run.attempts[-1].node_id == name]
            slots = [slot for run in here for slot in run.attempts[-1].slots]
            assert len(slots) == len(set(slots))
            assert set(slots) <= set(range(total.gpus))
            assert sum((run.resources for run in here), Resources()).fits_in(total)
        for name, quota in self.quotas.items():
            used = sum(run.resources.gpus for run in self._holders() if run.account_id == name)
            assert quota is None or used <= quota

    def all_final(self) -> bool:
        """Whether every run has come to its end."""
        return all(run.state_name in FINAL for run in self.runs.values())
