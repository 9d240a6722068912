"""The store in memory: small, quick, and the yardstick that the real ones are compared with."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from statistics import median

from runyard.core import lifecycle
from runyard.core.account import refuse_waiting
from runyard.core.errors import Conflict, NotFound
from runyard.core.events import Event, EventKind, Recorded
from runyard.core.lifecycle import Transition, is_blocked, is_granted
from runyard.core.metering import LedgerEntry
from runyard.core.resources import Resources
from runyard.core.run import BLOCKED, FINAL, GRANT, HOLDS_SLOT, Run, StateName, StopCause, Waiting
from runyard.core.scheduling.snapshot import Head, QueueClass
from runyard.core.use import Held
from runyard.ports.environments import NO_FACTS, SpecFacts
from runyard.ports.store import (
    NO_PACE,
    NOT_CLOSED,
    Holding,
    RunQuery,
    StoredSpec,
    Submission,
    UsageRow,
)
from runyard.testing.memory_environments import MemoryEnvironments
from runyard.testing.memory_heads import backoff_of, first_of
from runyard.testing.memory_members import MemoryMembers
from runyard.testing.memory_nodes import MemoryNodes
from runyard.testing.memory_notes import MemoryNotes
from runyard.testing.memory_retention import MemoryRetention
from runyard.testing.memory_secrets import MemoryDependencies, MemorySealed, MemorySecrets
from runyard.testing.memory_shares import MemoryShares
from runyard.testing.memory_summaries import MemorySummaries


class _Runs(
    MemoryMembers, MemoryShares, MemoryEnvironments, MemorySecrets, MemorySealed, MemoryDependencies, MemorySummaries
):
    """Runs and what happens to them."""

    def __init__(self) -> None:
        super().__init__()
        self._specs: dict[int, StoredSpec] = {}
        self._spec_priorities: dict[int, int] = {}
        self._classes: dict[tuple[str, int, Resources], int] = {}
        self._replies: dict[tuple[str, str], tuple[str, tuple[str, ...], int]] = {}
        self._tags: dict[str, tuple[str, ...]] = {}
        self._events: list[Recorded] = []
        self._ledger: dict[tuple[str, int], LedgerEntry] = {}
        self._seq = 0

    def submit(self, submission: Submission) -> tuple[tuple[str, ...], bool]:
        count = len(submission.ids)
        if not count or len(submission.names) != count or len(submission.parameters) != count:
            raise ValueError("a submission has at least one run, and an id, a name and parameters for each")
        with self._lock:
            key = submission.idempotency_key
            if key is not None:
                earlier = self.replay(submission.account_id, key, submission.request_digest)
                if earlier is not None:
                    return earlier, True
            if submission.account_id not in self._accounts:
                raise NotFound(f"There is no account {submission.account_id!r}: create it first.")
            if (most := self.quota_of(submission.account_id).waiting) is not None:
                refuse_waiting(self._in(submission.account_id, {StateName.waiting}), count, most)
            if len(set(submission.ids)) < count or not self._runs.keys().isdisjoint(submission.ids):
                raise Conflict("One of the new ids is in use already: submit again, with other ids.")
            self._accept(submission)
            if key is not None:
                reply = submission.request_digest, submission.ids, submission.now_ms
                self._replies[submission.account_id, key] = reply
            return submission.ids, False

    def _in(self, account_id: str, states: Collection[StateName]) -> int:
        return sum(run.account_id == account_id and run.state_name in states for run in self._runs.values())

    def _live(self, account_id: str) -> int:
        return self._in(account_id, set(StateName) - FINAL)

    def _forget_members(self, account_id: str, now_ms: int) -> None:
        super()._forget_members(account_id, now_ms)
        for key in [key for key in self._secrets if key[0] == account_id]:
            del self._secrets[key]

    def replay(self, account_id: str, idempotency_key: str, request_digest: str) -> tuple[str, ...] | None:
        with self._lock:
            reply = self._replies.get((account_id, idempotency_key))
        if reply is None:
            return None
        if reply[0] != request_digest:
            raise Conflict(
                f"The idempotency key {idempotency_key!r} was used for another request: "
                "send the same request again, or use a new key.",
                code="idempotency_conflict",
            )
        return reply[1]

    def _accept(self, submission: Submission) -> None:
        options = submission.spec.options
        stored = StoredSpec(
            len(self._specs) + 1,
            submission.account_id,
            submission.spec,
            submission.code_sha256,
            submission.append_args,
            dict(submission.provenance),
            submission.sealed,
            submission.environment,
        )
        self._specs[stored.id] = stored
        self._spec_priorities[stored.id] = options.priority
        class_id = self._class_of(submission.account_id, options.priority, submission.resources)
        tags = tuple(dict.fromkeys(options.tags))
        first = lifecycle.first_start(options.start_after_ms, submission.now_ms)
        state = Waiting(BLOCKED) if submission.after else Waiting(first)
        for run_id, name, parameters in zip(submission.ids, submission.names, submission.parameters, strict=True):
            self._seq += 1
            self._tags[run_id] = tags
            self._after[run_id] = tuple(dict.fromkeys(submission.after))
            self._runs[run_id] = Run(
                id=run_id,
                seq=self._seq,
                account_id=submission.account_id,
                member_id=submission.member_id,
                name=name,
                spec_id=stored.id,
                parameters=parameters,
                class_id=class_id,
                resources=submission.resources,
                priority=options.priority,
                rank=self._seq,
                state=state,
                version=1,
                created_ms=submission.now_ms,
                max_retries=options.max_retries,
                tags=tags,
                notes=submission.notes,
            )
            body = {"member": submission.member_id}
            self._tell(Event(EventKind.accepted, run_id, submission.account_id, submission.now_ms, None, body))
        for run_id in submission.ids if submission.ready_on is not None else ():
            staged = lifecycle.staged(self._runs[run_id], submission.ready_on or "", submission.now_ms)
            if staged is not None:
                self._runs[run_id] = staged.after
                for event in staged.events:
                    self._tell(event)

    def _class_of(self, account_id: str, priority: int, resources: Resources) -> int:
        return self._classes.setdefault((account_id, priority, resources), len(self._classes) + 1)

    def _tell(self, event: Event) -> None:
        self._events.append(Recorded(len(self._events) + 1, event))

    def run(self, run_id: str) -> Run | None:
        return self._runs.get(run_id)

    def runs(self, query: RunQuery) -> Sequence[Run]:
        def fits(run: Run) -> bool:
            return (
                query.account_id in (None, run.account_id)
                and (not query.states or run.state_name in query.states)
                and (query.tag is None or query.tag in run.tags)
                and query.name in (None, run.name)
                and (query.before_seq is None or run.seq < query.before_seq)
            )

        return sorted(filter(fits, self._all()), key=lambda run: -run.seq)[: query.limit]

    def listed(self, query: RunQuery) -> Sequence[tuple[int, str]]:
        return [(run.seq, run.id) for run in self.runs(query)]

    def cancel_waiting(self, account_id: str, run_ids: Sequence[str], now_ms: int) -> Sequence[str]:
        with self._lock:
            asked = sorted((self._runs[each] for each in set(run_ids) & self._runs.keys()), key=lambda run: run.seq)
            mine = [run for run in asked if run.account_id == account_id and not run.attempts]
            stops = [
                lifecycle.stop(run, StopCause.cancel, now_ms)
                for run in mine
                if run.state_name is StateName.waiting and not is_granted(run)
            ]
            return [stop.after.id for stop in stops if stop is not None and self._apply(stop, ())]

    def _all(self) -> list[Run]:
        with self._lock:
            return list(self._runs.values())

    def run_ids(self, account_id: str | None, prefix: str, limit: int) -> Sequence[str]:
        mine = (run.id for run in self._all() if account_id in (None, run.account_id))
        return sorted(run_id for run_id in mine if run_id.startswith(prefix))[:limit]

    def counts(self, account_id: str | None) -> Mapping[StateName, int]:
        return Counter(run.state_name for run in self._all() if account_id in (None, run.account_id))

    def spec(self, spec_id: int) -> StoredSpec | None:
        return self._specs.get(spec_id)

    def apply(
        self,
        transitions: Sequence[Transition],
        ledger: Sequence[LedgerEntry] = (),
        *,
        whole: bool = False,
        held: Sequence[Held] = (),
    ) -> tuple[bool, ...]:
        with self._lock:
            if whole and not self._all_fresh(transitions):
                return (False,) * len(transitions)
            return tuple(self._apply(transition, ledger, held) for transition in transitions)

    def _all_fresh(self, transitions: Sequence[Transition]) -> bool:
        versions = {run.id: run.version for run in self._runs.values()}
        for transition in transitions:
            if versions.get(transition.before.id) != transition.before.version:
                return False
            versions[transition.after.id] = transition.after.version
        return True

    def _apply(self, transition: Transition, ledger: Sequence[LedgerEntry], held: Sequence[Held] = ()) -> bool:
        there, after = self._runs.get(transition.before.id), transition.after
        if there is None or there.version != transition.before.version:
            return False
        self._runs[after.id] = replace(after, rank=there.rank, tags=there.tags)
        for event in transition.events:
            self._tell(event)
        numbers = {attempt.number for attempt in after.attempts}
        for entry in ledger:
            key = (entry.run_id, entry.attempt)
            if entry.run_id == after.id and entry.attempt in numbers and key not in self._ledger:
                self._ledger[key] = entry
                self._spend(entry)
                self._fold_use(each for each in held if (each.run_id, each.attempt) == key)
        return True

    def delete_run(self, run_id: str, now_ms: int | None = None) -> bool:
        with self._lock:
            run = self._runs.get(run_id)
            if run is None or run.state_name not in FINAL:
                return False
            del self._runs[run_id]
            self._forget_metrics(run_id)
            at_ms = self.latest_event_ms() if now_ms is None else now_ms
            self._tell(Event(EventKind.deleted, run_id, run.account_id, at_ms))
            return True

    def latest_event_ms(self) -> int:
        with self._lock:
            return max((recorded.event.at_ms for recorded in self._events), default=0)


class _Queue(_Runs):
    """The order of the queue, staging, and what holds room."""

    def _waiting(self, only: Callable[[Run], bool] = lambda _run: True) -> list[Run]:
        """Waiting runs in the order of the queue."""
        waiting = (run for run in self._all() if run.state_name is StateName.waiting and only(run))
        return sorted(waiting, key=lambda run: (-run.priority, run.rank))

    def set_rank(self, run_id: str, position: int, now_ms: int) -> bool:
        with self._lock:
            run = self._runs.get(run_id)
            if run is None or run.state_name is not StateName.waiting:
                return False
            others = self._waiting(lambda other: other.priority == run.priority and other.id != run_id)
            place = min(max(1, position), len(others) + 1)
            self._insert(run, others[place - 1] if place <= len(others) else None)
            self._runs[run_id] = replace(self._runs[run_id], version=run.version + 1)
            self._tell(Event(EventKind.moved, run_id, run.account_id, now_ms, None, {"position": place}))
            return True

    def _insert(self, run: Run, before: Run | None) -> None:
        """Put a run directly before another (None: last) among all that wait, or may wait again, in its priority."""
        live = [
            other
            for other in self._all()
            if other.priority == run.priority
            and other.id != run.id
            and (other.state_name is StateName.waiting or other.state_name in HOLDS_SLOT)
        ]
        live.sort(key=lambda other: other.rank)
        ranks = sorted([other.rank for other in live] + [run.rank])
        live.insert(len(live) if before is None else live.index(before), run)
        for other, rank in zip(live, ranks, strict=True):
            self._runs[other.id] = replace(other, rank=rank)

    def specs_to_stage(self, limit: int) -> Sequence[int]:
        places: dict[int, tuple[int, int]] = {}
        for run in self._waiting(lambda run: run.ready_on is None):
            place = (-self._spec_priorities[run.spec_id], run.rank)
            places[run.spec_id] = min(place, places.get(run.spec_id, place))
        return sorted(places, key=lambda spec_id: places[spec_id])[:limit]

    def mark_staged(
        self, spec_id: int, node_id: str, now_ms: int, fetched: int = 0, facts: SpecFacts = NO_FACTS
    ) -> int:
        with self._lock:
            self.put_spec_facts(spec_id, facts)
            unready = self._waiting(lambda run: run.spec_id == spec_id and run.ready_on is None)
            moves = [lifecycle.staged(run, node_id, now_ms, fetched) for run in unready]
            return sum(self.apply([move for move in moves if move is not None]))

    def unstage(self, node_id: str) -> int:
        with self._lock:
            lost = self._waiting(lambda run: run.ready_on == node_id)
            for run in lost:
                self._runs[run.id] = replace(run, ready_on=None, staged_ms=None, version=run.version + 1)
            return len(lost)

    def waiting_of_spec(self, spec_id: int, limit: int) -> Sequence[Run]:
        return self._waiting(lambda run: run.spec_id == spec_id)[:limit]

    def set_priority(self, run_id: str, priority: int, now_ms: int) -> bool:
        with self._lock:
            run = self._runs.get(run_id)
            if run is None or run.state_name is not StateName.waiting:
                return False
            if run.priority != priority:
                class_id = self._class_of(run.account_id, priority, run.resources)
                self._runs[run_id] = replace(run, priority=priority, class_id=class_id, version=run.version + 1)
                self._spec_priorities[run.spec_id] = max(priority, self._spec_priorities[run.spec_id])
                body = {"priority": priority, "before": run.priority}
                self._tell(Event(EventKind.priority, run_id, run.account_id, now_ms, None, body))
            return True

    def _limit(self, run: Run) -> int | None:
        return self._specs[run.spec_id].spec.options.max_runtime_ms

    def classes(
        self,
        now_ms: int,
        heads: int,
        *,
        expected: Mapping[int, int] = NO_PACE,
        opens: Mapping[str, int] = NOT_CLOSED,
    ) -> Sequence[QueueClass]:
        ready: defaultdict[int, list[Run]] = defaultdict(list)
        for run in self._waiting(lambda run: run.ready_on is not None):
            ready[run.class_id].append(run)
        return [
            QueueClass(
                class_id,
                runs[0].account_id,
                runs[0].priority,
                runs[0].resources,
                tuple(
                    self._head(run, expected.get(class_id), opens.get(run.account_id, 0))
                    for run in first_of(runs, now_ms, heads)
                ),
                len(runs),
            )
            for class_id, runs in sorted(ready.items())
        ]

    def _head(self, run: Run, expected_ms: int | None, opens_ms: int) -> Head:
        node, limit = str(run.ready_on), self._limit(run)
        if is_granted(run):
            return Head(
                run.id, run.rank, node, granted=True, limit_ms=limit, expected_ms=expected_ms, opens_ms=opens_ms
            )
        held = backoff_of(run)
        if held and not run.attempts:
            return Head(run.id, run.rank, node, 0, False, limit, expected_ms, max(held, opens_ms))
        return Head(run.id, run.rank, node, held, False, limit, expected_ms, opens_ms)

    def holdings(self) -> Sequence[Holding]:
        held = sorted((run for run in self._all() if run.state_name in HOLDS_SLOT), key=lambda run: run.seq)
        return [
            Holding(
                run.id,
                run.attempt.number,
                run.account_id,
                run.attempt.node_id,
                run.attempt.slots,
                run.resources,
                run.class_id,
                run.priority,
                run.attempt.assigned_ms,
                self._limit(run),
                run.state_name is StateName.stopping,
            )
            for run in held
            if run.attempt is not None and run.attempt.way != GRANT
        ]

    def ahead_of(self, run: Run) -> int:
        place = (-run.priority, run.rank)
        return len(self._waiting(lambda other: (-other.priority, other.rank) < place and not is_blocked(other)))

    def waiting_page(self, account_id: str | None, limit: int) -> Sequence[Run]:
        return self._waiting(lambda run: account_id in (None, run.account_id))[:limit]

    def typical_duration_ms(self, spec_id: int, account_id: str) -> int | None:
        runs = self._all()
        for group in (
            [run for run in runs if run.spec_id == spec_id],
            [run for run in runs if run.account_id == account_id],
        ):
            ended = [
                (attempt.released_ms, attempt.released_ms - attempt.assigned_ms)
                for run in group
                for attempt in run.attempts
                if attempt.released_ms is not None
            ]
            if ended:
                return int(median(duration for _at, duration in sorted(ended, reverse=True)[:20]))
        return None

    def active_runs(self, node_id: str) -> Sequence[Run]:
        active = HOLDS_SLOT | {StateName.storing}
        there = (run for run in self._all() if run.state_name in active)
        return sorted((run for run in there if node_id in (_node(run), run.ready_on)), key=lambda run: run.seq)

    def granted_runs(self, node_id: str) -> Sequence[Run]:
        held = self._waiting(lambda run: isinstance(run.state, Waiting) and run.state.granted_to == node_id)
        return sorted(held, key=lambda run: run.seq)

    def requeued_runs(self, node_id: str) -> Sequence[Run]:
        return sorted(self._waiting(lambda run: _node(run) == node_id), key=lambda run: run.seq)


class MemoryStore(MemoryNotes, _Queue, MemoryRetention, MemoryNodes):
    """The whole port, :class:`runyard.ports.store.Store`, without a file. It may be called from any thread."""

    def events(
        self,
        after_seq: int,
        limit: int,
        *,
        account_id: str | None = None,
        run_id: str | None = None,
        kinds: frozenset[EventKind] = frozenset(),
    ) -> Sequence[Recorded]:
        with self._lock:
            later = self._events[max(0, after_seq) :]
        fitting = (
            recorded
            for recorded in later
            if account_id in (None, recorded.event.account_id)
            and run_id in (None, recorded.event.run_id)
            and (not kinds or recorded.event.kind in kinds)
        )
        return list(fitting)[:limit]

    def last_seq(self) -> int:
        return len(self._events)

    def ledger(self, run_id: str) -> Sequence[LedgerEntry]:
        with self._lock:
            return [self._ledger[key] for key in sorted(self._ledger) if key[0] == run_id]

    def usage(self, account_id: str | None, by: str, since_ms: int | None, until_ms: int | None) -> Sequence[UsageRow]:
        if by not in ("account", "user", "day", "tag"):
            raise ValueError(f"usage can be grouped by account, user, day, tag, not by {by!r}")
        groups: defaultdict[str, list[LedgerEntry]] = defaultdict(list)
        with self._lock:
            entries = list(self._ledger.values())
        for entry in entries:
            in_time = (since_ms is None or entry.from_ms >= since_ms) and (until_ms is None or entry.from_ms < until_ms)
            if in_time and account_id in (None, entry.account_id):
                for group in self._groups(entry, by):
                    groups[group].append(entry)
        return [_sum(group, groups[group]) for group in sorted(groups)]

    def _groups(self, entry: LedgerEntry, by: str) -> Iterable[str]:
        if by == "account":
            return (entry.account_id,)
        if by == "user":
            member = self._members.get(entry.member_id)
            return (entry.member_id if member is None else member.name,)
        if by == "day":
            return (datetime.fromtimestamp(entry.from_ms / 1000, UTC).date().isoformat(),)
        return self._tags.get(entry.run_id, ())

    def close(self) -> None:
        """Nothing is held open."""


def _node(run: Run) -> str | None:
    return run.attempt.node_id if run.attempt is not None else None


def _sum(group: str, entries: Sequence[LedgerEntry]) -> UsageRow:
    billed = [entry for entry in entries if not entry.waste]
    return UsageRow(
        group=group,
        runs=len({entry.run_id for entry in entries}),
        attempts=len(entries),
        gpu_ms=sum(entry.gpu_ms for entry in billed),
        cpu_ms=sum(entry.cpu_ms for entry in billed),
        gb_ms=sum(entry.gb_ms for entry in billed),
        cost=sum(entry.cost for entry in billed),
        waste_gpu_ms=sum(entry.gpu_ms for entry in entries if entry.waste),
    )
