"""Applying transitions, guarded by version, and keeping the counts that queries rely on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Final

from runyard.adapters.sql.codec import columns_of, columns_of_attempt, columns_of_event, insert_into
from runyard.adapters.sql.database import Database, Transaction
from runyard.adapters.sql.places import changed, count_blocks
from runyard.adapters.sql.shares import fold_use, spend
from runyard.core.events import Event, EventKind
from runyard.core.lifecycle import Transition
from runyard.core.metering import LedgerEntry
from runyard.core.run import FINAL, Run, StateName
from runyard.core.use import Held

_CHANGED: Final = (
    "state", "detail", "version", "attempt", "not_before_ms", "ready_on", "staged_ms", "finished_ms", "stored_ms",
    "notes",
)  # fmt: skip
_UPDATE_RUN: Final = (
    f"UPDATE runs SET {', '.join(f'{name} = :{name}' for name in _CHANGED)} WHERE id = :id AND version = :was"
)
_ATTEMPT_KEY: Final = ("run_id", "number")
_ATTEMPT_FIXED: Final = ("spec_id", "account_id", "node_id")
_ATTEMPT_CHANGED: Final = (
    "slots",
    "assigned_ms",
    "started_ms",
    "released_ms",
    "ending",
    "log_bytes",
    "tamper_proof",
    "peak_memory_mib",
    "way",
    "way_note",
)
_PUT_ATTEMPT: Final = (
    insert_into("attempts", _ATTEMPT_KEY + _ATTEMPT_FIXED + _ATTEMPT_CHANGED)
    + " ON CONFLICT (run_id, number) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _ATTEMPT_CHANGED)
)
_INSERT_EVENT: Final = insert_into("events", ("seq", "kind", "run_id", "account_id", "at_ms", "attempt", "body"))
_LEDGER_COLUMNS: Final = (
    "run_id", "attempt", "account_id", "member_id", "from_ms", "to_ms", "gpu_ms", "cpu_ms", "gb_ms", "cost", "waste"
)  # fmt: skip
_INSERT_LEDGER: Final = insert_into("ledger", _LEDGER_COLUMNS) + " ON CONFLICT (run_id, attempt) DO NOTHING"
_COUNT_STATE: Final = (
    "INSERT INTO state_counts (account_id, state, runs) VALUES (:account_id, :state, :change) "
    "ON CONFLICT (account_id, state) DO UPDATE SET runs = state_counts.runs + excluded.runs"
)
_COUNT_CLASS: Final = "UPDATE queue_classes SET waiting = waiting + :waiting, ready = ready + :ready WHERE id = :id"


class _Stale(Exception):
    """One of the changes that were to be made together was decided on an older version."""


class ChangeTables:
    """What happens to runs."""

    _db: Database
    _half_life_ms: int

    def apply(
        self,
        transitions: Sequence[Transition],
        ledger: Sequence[LedgerEntry] = (),
        *,
        whole: bool = False,
        held: Sequence[Held] = (),
    ) -> tuple[bool, ...]:
        if not transitions:
            return ()
        with suppress(_Stale), self._db.write() as tx:
            applied = tuple(_change_run(tx, transition) for transition in transitions)
            if whole and not all(applied):
                raise _Stale
            done = [transition for transition, ok in zip(transitions, applied, strict=True) if ok]
            if done:
                _follow_up(tx, done)
                self._settle(tx, done, ledger, held)
            return applied
        return (False,) * len(transitions)

    def _settle(
        self, tx: Transaction, done: Sequence[Transition], ledger: Sequence[LedgerEntry], held: Sequence[Held]
    ) -> None:
        ours = {(transition.after.id, attempt.number) for transition in done for attempt in transition.after.attempts}
        new = [entry for entry in ledger if (entry.run_id, entry.attempt) in ours and _enter(tx, entry)]
        if new:
            spend(tx, new)
            keys = {(entry.run_id, entry.attempt) for entry in new}
            fold_use(tx, [each for each in held if (each.run_id, each.attempt) in keys], self._half_life_ms)

    def delete_run(self, run_id: str, now_ms: int | None = None) -> bool:
        with self._db.write() as tx:
            row = tx.row("SELECT account_id, state FROM runs WHERE id = :id", id=run_id)
            if row is None or row[1] not in FINAL:
                return False
            tx.change("DELETE FROM runs WHERE id = :id", id=run_id)
            count_states(tx, {(row[0], StateName(row[1])): -1})
            at_ms = latest_event_ms(tx) if now_ms is None else now_ms
            add_events(tx, [Event(EventKind.deleted, run_id, row[0], at_ms)])
            return True


def _change_run(tx: Transaction, transition: Transition) -> bool:
    before, after = transition.before, transition.after
    if tx.change(_UPDATE_RUN, was=before.version, **columns_of(after)) != 1:
        return False
    for attempt in after.attempts[max(0, len(before.attempts) - 1) :]:
        if attempt not in before.attempts[-1:]:
            tx.change(_PUT_ATTEMPT, **columns_of_attempt(after, attempt))
    return True


def _enter(tx: Transaction, entry: LedgerEntry) -> bool:
    """Write a ledger entry; False where the attempt has one."""
    return tx.change(_INSERT_LEDGER, **{name: getattr(entry, name) for name in _LEDGER_COLUMNS}) == 1


def _follow_up(tx: Transaction, done: Sequence[Transition]) -> None:
    add_events(tx, [event for transition in done for event in transition.events])
    states: Counter[tuple[str, StateName]] = Counter()
    waiting: Counter[int] = Counter()
    ready: Counter[int] = Counter()
    for transition in done:
        for run, sign in ((transition.before, -1), (transition.after, 1)):
            states[run.account_id, run.state_name] += sign
            waiting[run.class_id] += sign * _waits(run)
            ready[run.class_id] += sign * (_waits(run) and run.ready_on is not None)
    count_states(tx, states)
    count_classes(tx, waiting, ready)
    count_blocks(tx, changed(tx, done))
    unready = {t.after.spec_id for t in done if _to_stage(t.before) != _to_stage(t.after)}
    find_stage_ranks(tx, unready)


def _waits(run: Run) -> bool:
    return run.state_name is StateName.waiting


def _to_stage(run: Run) -> bool:
    return _waits(run) and run.ready_on is None


def latest_event_ms(tx: Transaction) -> int:
    """The time of the latest event, 0 before the first."""
    # Writers may read the clock in another order than they commit in, but not by a hundred events.
    latest = "SELECT max(at_ms) FROM (SELECT at_ms FROM events ORDER BY seq DESC LIMIT 100) AS latest"
    return int(tx.value(latest) or 0)


def add_events(tx: Transaction, events: Sequence[Event]) -> None:
    """Record events in this order, with the next sequence numbers."""
    if events:
        first = tx.take("event", len(events))
        tx.change_each(_INSERT_EVENT, [columns_of_event(seq, event) for seq, event in enumerate(events, first)])


def count_states(tx: Transaction, changes: Mapping[tuple[str, StateName], int]) -> None:
    """Add to the numbers of runs in each (account, state)."""
    rows = [
        {"account_id": account_id, "state": state.value, "change": change}
        for (account_id, state), change in changes.items()
        if change
    ]
    tx.change_each(_COUNT_STATE, rows)


def count_classes(tx: Transaction, waiting: Mapping[int, int], ready: Mapping[int, int]) -> None:
    """Add to the numbers of waiting and of ready runs in each class."""
    rows = [
        {"id": class_id, "waiting": waiting.get(class_id, 0), "ready": ready.get(class_id, 0)}
        for class_id in {**waiting, **ready}
        if waiting.get(class_id, 0) or ready.get(class_id, 0)
    ]
    tx.change_each(_COUNT_CLASS, rows)


def find_stage_ranks(tx: Transaction, spec_ids: Collection[int]) -> None:
    """Find again where each spec stands in the order of staging: at its first waiting run that is not ready."""
    rows = [{"id": spec_id} for spec_id in sorted(spec_ids)]
    tx.change_each(
        "UPDATE specs SET stage_rank = (SELECT rank FROM runs WHERE spec_id = :id AND state = 'waiting' "
        "AND ready_on IS NULL ORDER BY rank LIMIT 1) WHERE id = :id",
        rows,
    )
