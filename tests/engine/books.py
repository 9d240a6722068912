"""The books of an engine, kept a second time from the attempts alone: what was held, spent and billed, and whether that
is what the store says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from runyard.core.budget import Budget, Spent, begin_of
from runyard.core.events import EventKind
from runyard.core.metering import LedgerEntry
from runyard.core.reasons import RULES, Reason
from runyard.core.resources import Price, Resources
from runyard.core.run import FINAL, GRANT, HOLDS_SLOT, Attempt, Run, StateName, Waiting
from runyard.ports.store import Store
from tests.engine.fleet import Key, Machine

_HOUR = 3_600_000
_BACK = frozenset({Reason.preempted, Reason.idle_requeued})


def cost(resources: Resources, ms: int, price: Price) -> float:
    """Micro-units of money, not rounded."""
    cpus, gb = resources.cpu_millis / 1000, resources.memory_mib / 1024
    return (resources.gpus * price.gpu_hour + cpus * price.cpu_hour + gb * price.gb_hour) * ms / _HOUR


def is_billed(attempt: Attempt) -> bool:
    """Whether an attempt costs anything, as far as is known."""
    return attempt.ending is None or RULES[attempt.ending.reason].billed


def has_room(attempt: Attempt) -> bool:
    """Whether it holds room, or did."""
    return attempt.way != GRANT or attempt.started_ms is not None


@dataclass
class Books:
    """``runs``: each as it was last seen, those that were deleted too. ``finished``: how often each became final."""

    store: Store
    price: Price
    begun_ms: int
    runs: dict[str, Run] = field(default_factory=dict)
    deleted: dict[str, tuple[LedgerEntry, ...]] = field(default_factory=dict)
    finished: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    used: dict[str, Resources] = field(default_factory=dict)
    _seq: int = 0

    def look(self, quotas: Mapping[str, Mapping[str, int]], nodes: Mapping[str, Resources]) -> None:
        """Look at everything: raises ``AssertionError`` where it cannot be so."""
        self._nothing_is_lost()
        self._no_room_is_given_twice(nodes)
        self._no_quota_is_exceeded(quotas)
        self._each_attempt_is_billed_once()

    def _nothing_is_lost(self) -> None:
        events = self.store.events(self._seq, 100_000)
        for recorded in events:
            self._seq = recorded.seq
            if recorded.event.kind is EventKind.finished:
                self.finished[recorded.event.run_id] += 1
        there = {run.id: run for run in self.store.runs_of([run for run in self.runs if run not in self.deleted])}
        assert there.keys() == self.runs.keys() - self.deleted.keys(), "a run is lost"
        for run in there.values():
            self._went_on(self.runs[run.id], run)
        self.runs |= there

    def _went_on(self, before: Run, run: Run) -> None:
        final = run.state_name in FINAL
        assert self.finished[run.id] == final, f"{run.id} is {run.state_name}, finished {self.finished[run.id]} times"
        if before.state_name in FINAL:
            assert run.state == before.state, "what is final has changed"
        assert [attempt.number for attempt in run.attempts] == list(range(1, len(run.attempts) + 1))
        for one, other in pairwise(run.attempts):
            assert one.released_ms is not None, "two attempts at once"
            assert one.released_ms <= other.assigned_ms, "an attempt began before the one before it had ended"
        held = [attempt for attempt in run.attempts if attempt.released_ms is None]
        assert len(held) == (run.state_name in HOLDS_SLOT)
        ending = run.attempts[-1].ending if run.attempts else None
        if ending is not None and ending.reason in _BACK and not isinstance(run.state, Waiting):
            wish = getattr(run.state, "ending", None)
            canceled = wish is not None and wish.outcome is StateName.canceled
            assert canceled, "what made room does not wait again"

    def _no_room_is_given_twice(self, nodes: Mapping[str, Resources]) -> None:
        slots: dict[str, list[int]] = defaultdict(list)
        held: dict[str, Resources] = defaultdict(Resources)
        for each in self.store.holdings():
            assert len(each.slots) == each.resources.gpus
            slots[each.node_id] += each.slots
            held[each.node_id] += each.resources
        for node_id, given in slots.items():
            assert len(given) == len(set(given)), f"a slot of {node_id} was given twice"
            assert set(given) <= set(range(nodes[node_id].gpus))
            assert held[node_id].fits_in(nodes[node_id]), f"{node_id} has less than was given"

    def _no_quota_is_exceeded(self, quotas: Mapping[str, Mapping[str, int]]) -> None:
        """What an account holds never becomes more than its quota; a quota that is lowered takes nothing away."""
        used: dict[str, Resources] = {account: Resources() for account in quotas}
        for each in self.store.holdings():
            used[each.account_id] += each.resources
        for account, now in used.items():
            before = self.used.get(account, Resources())
            for kind, limit in quotas[account].items():
                amount = getattr(now, kind)
                assert amount <= max(limit, getattr(before, kind)), f"{account} has {amount} {kind}, may have {limit}"
        self.used = used

    def _each_attempt_is_billed_once(self) -> None:
        spans: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
        bills: dict[str, int] = defaultdict(int)
        for run in self.runs.values():
            entries = self.store.ledger(run.id)
            if run.id in self.deleted:
                assert tuple(entries) == self.deleted[run.id], "deleting has changed the bill"
            released = {attempt.number: attempt for attempt in run.attempts if attempt.released_ms is not None}
            assert [entry.attempt for entry in entries] == sorted(released), "billed twice, or not at all"
            for entry in entries:
                attempt = released[entry.attempt]
                self._is_right(run, attempt, entry)
                bills[run.account_id] += entry.cost
                for slot in attempt.slots:
                    spans[attempt.node_id, slot].append((attempt.assigned_ms, attempt.released_ms or 0))
        for times in spans.values():
            assert all(one[1] <= other[0] for one, other in pairwise(sorted(times))), "one slot, billed to two"
        for account, bill in bills.items():
            assert sum(row.cost for row in self.store.usage(account, "account", None, None)) == bill

    def _is_right(self, run: Run, attempt: Attempt, entry: LedgerEntry) -> None:
        held = (attempt.released_ms or 0) - attempt.assigned_ms
        assert entry.gpu_ms == run.resources.gpus * held
        assert entry.waste is not is_billed(attempt)
        expected = cost(run.resources, held, self.price) if is_billed(attempt) else 0.0
        assert expected - 1 < entry.cost <= expected + 1e-3, (entry, expected)

    def spent(self, account: str, budget: Budget, now: int, machines: Iterable[Machine] = ()) -> Spent:
        """What an account has really spent in this period: by the attempts, and by what machines know and have not told
        yet."""
        begin = begin_of(budget.period, now)
        gpu_ms, money = 0, 0.0
        for run, since, until in self._held(account, now, list(machines)):
            held = max(0, until - max(begin, since))
            gpu_ms += run.resources.gpus * held
            money += cost(run.resources, held, self.price)
        return Spent(gpu_ms, int(money))

    def _held(self, account: str, now: int, machines: list[Machine]) -> Iterable[tuple[Run, int, int]]:
        ended = {key: at for machine in machines for key, at in machine.ended.items()}
        known: set[Key] = set()
        for run in self.runs.values():
            for attempt in run.attempts if run.account_id == account else ():
                if not has_room(attempt) or not is_billed(attempt):
                    continue
                key = (run.id, attempt.number)
                known.add(key)
                until = ended.get(key, now) if attempt.released_ms is None else attempt.released_ms
                yield run, attempt.assigned_ms, until
        for machine in machines:
            for key, program in machine.running.items():
                run = self.runs[key[0]]
                if key not in known and run.account_id == account and key[1] > len(run.attempts):
                    yield run, program.since_ms, now

    def is_used_up(self, account: str, budget: Budget, now: int, machines: Iterable[Machine] = ()) -> bool:
        """Whether nothing may start: the money within as many units as there are attempts, for each is rounded."""
        spent = self.spent(account, budget, now, machines)
        rounded = sum(len(run.attempts) + 2 for run in self.runs.values())
        by_time = budget.gpu_ms is not None and spent.gpu_ms >= budget.gpu_ms
        return by_time or (budget.cost is not None and spent.cost >= budget.cost + (rounded if budget.cost else 0))
