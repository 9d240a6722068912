"""The order of the queue, and what holds room now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

from runyard.adapters.sql.changes import add_events, count_classes, find_stage_ranks
from runyard.adapters.sql.codec import numbers
from runyard.adapters.sql.database import Database, Transaction
from runyard.adapters.sql.places import BLOCK, ahead_of, count_blocks, moved, stands
from runyard.adapters.sql.ranks import RANK_STEP, between, spread
from runyard.adapters.sql.runs import fetch_runs
from runyard.adapters.sql.schema import IN_BACKOFF, NOT_BLOCKED
from runyard.adapters.sql.submissions import class_of
from runyard.core.events import Event, EventKind
from runyard.core.resources import Resources
from runyard.core.run import GRANT, GRANTED, Run
from runyard.core.scheduling.snapshot import Head, QueueClass
from runyard.ports.store import NO_PACE, NOT_CLOSED, Holding

SAMPLE: Final = 20
"""How many finished attempts a typical duration is learned from."""

# SQLite takes a partial index only for a query that says its condition word for word.
_HOLDS: Final = "state IN ('starting', 'running', 'stopping', 'storing') AND state <> 'storing'"
_ACTIVE: Final = "state IN ('starting', 'running', 'stopping', 'storing')"
_OTHERS_WAITING: Final = "FROM runs WHERE state = 'waiting' AND priority = :priority AND id <> :id"
_OTHERS_HOLDING: Final = f"FROM runs WHERE {_HOLDS} AND priority = :priority AND id <> :id"
_LIMIT: Final = "(SELECT limit_ms FROM specs WHERE specs.id = spec_id)"
_HEADS: Final = (
    f"SELECT id, rank, ready_on, not_before_ms, attempt, {_LIMIT} FROM runs WHERE class_id = :class "
    f"AND state = 'waiting' AND ready_on IS NOT NULL AND {NOT_BLOCKED}"
)
_GRANTED: Final = f"{IN_BACKOFF} AND not_before_ms = {GRANTED}"
_GRANTED_HEADS: Final = f"SELECT id, rank, ready_on, {_LIMIT} FROM runs WHERE class_id = :class AND {_GRANTED}"
_STANDS: Final = f"state = 'waiting' AND {NOT_BLOCKED}"
_LATEST: Final = "LEFT JOIN attempts a ON a.run_id = r.id AND a.number = r.attempt"


class QueueTables:
    """What waits, in which order, and what runs."""

    _db: Database

    def classes(
        self,
        now_ms: int,
        heads: int,
        *,
        expected: Mapping[int, int] = NO_PACE,
        opens: Mapping[str, int] = NOT_CLOSED,
    ) -> Sequence[QueueClass]:
        with self._db.read() as tx:
            rows = tx.rows(
                "SELECT id, account_id, priority, gpus, cpu_millis, memory_mib, ready FROM queue_classes "
                "WHERE ready > 0 ORDER BY id"
            )
            return [
                QueueClass(
                    row[0],
                    row[1],
                    row[2],
                    Resources(*row[3:6]),
                    _heads(tx, row[0], now_ms, heads, expected.get(row[0]), opens.get(row[1], 0)),
                    row[6],
                )
                for row in rows
            ]

    def holdings(self) -> Sequence[Holding]:
        with self._db.read() as tx:
            rows = tx.rows(
                "SELECT r.seq, r.id, a.number, r.account_id, a.node_id, a.slots, c.gpus, c.cpu_millis, c.memory_mib, "
                "r.class_id, r.priority, a.assigned_ms, s.limit_ms, r.state = 'stopping' "
                "FROM runs r JOIN queue_classes c ON c.id = r.class_id JOIN specs s ON s.id = r.spec_id "
                "JOIN attempts a ON a.run_id = r.id AND a.number = r.attempt "
                f"WHERE {_HOLDS} AND a.way <> '{GRANT}'"
            )
        return [_holding(*row) for row in sorted(rows)]

    def ahead_of(self, run: Run) -> int:
        with self._db.read() as tx:
            return ahead_of(tx, run)

    def waiting_page(self, account_id: str | None, limit: int) -> Sequence[Run]:
        mine = "" if account_id is None else "AND account_id = :account"
        with self._db.read() as tx:
            rows = tx.rows(
                f"SELECT id FROM runs WHERE state = 'waiting' {mine} ORDER BY priority DESC, rank LIMIT :limit",
                limit=limit,
                **({} if account_id is None else {"account": account_id}),
            )
            return fetch_runs(tx, [row[0] for row in rows])

    def typical_duration_ms(self, spec_id: int, account_id: str) -> int | None:
        with self._db.read() as tx:
            for column, value in (("spec_id", spec_id), ("account_id", account_id)):
                rows = tx.rows(
                    f"SELECT released_ms - assigned_ms FROM attempts WHERE {column} = :value "
                    "AND released_ms IS NOT NULL ORDER BY released_ms DESC LIMIT :limit",
                    value=value,
                    limit=SAMPLE,
                )
                if rows:
                    return int(median(row[0] for row in rows))
        return None

    def active_runs(self, node_id: str) -> Sequence[Run]:
        with self._db.read() as tx:
            rows = tx.rows(
                f"SELECT r.seq, r.id FROM runs r {_LATEST} "
                f"WHERE {_ACTIVE} AND (a.node_id = :node OR r.ready_on = :node)",
                node=node_id,
            )
            return fetch_runs(tx, [run_id for _seq, run_id in sorted(rows)])

    def granted_runs(self, node_id: str) -> Sequence[Run]:
        with self._db.read() as tx:
            rows = tx.rows(
                f"SELECT seq, id FROM runs WHERE {_GRANTED} AND ready_on = :node "
                "AND class_id IN (SELECT id FROM queue_classes WHERE ready > 0)",
                node=node_id,
            )
            return fetch_runs(tx, [run_id for _seq, run_id in sorted(rows)])

    def requeued_runs(self, node_id: str) -> Sequence[Run]:
        with self._db.read() as tx:
            rows = tx.rows(
                f"SELECT r.seq, r.id FROM runs r {_LATEST} "
                "WHERE r.state = 'waiting' AND r.attempt > 0 AND a.node_id = :node",
                node=node_id,
            )
            return fetch_runs(tx, [run_id for _seq, run_id in sorted(rows)])

    def set_priority(self, run_id: str, priority: int, now_ms: int) -> bool:
        with self._db.write() as tx:
            found = fetch_runs(tx, [run_id])
            if not found or found[0].state_name.value != "waiting":
                return False
            if found[0].priority != priority:
                _change_priority(tx, found[0], priority, now_ms)
            return True

    def set_rank(self, run_id: str, position: int, now_ms: int) -> bool:
        with self._db.write() as tx:
            found = fetch_runs(tx, [run_id])
            if not found or found[0].state_name.value != "waiting":
                return False
            run, place = found[0], max(1, position)
            upper = _rank_at(tx, run, place)
            if upper is None:
                place = 1 + int(tx.value(f"SELECT count(*) {_OTHERS_WAITING}", id=run.id, priority=run.priority))
                # Below the rank of the next run to be submitted.
                upper = RANK_STEP * (1 + int(tx.value("SELECT value FROM counters WHERE name = 'run'")))
            rank = _make_room(tx, run, upper)
            tx.change("UPDATE runs SET rank = :rank, version = version + 1 WHERE id = :id", rank=rank, id=run.id)
            if stands(run):
                count_blocks(tx, moved(run.priority, [(run.rank, rank)]))
            find_stage_ranks(tx, {run.spec_id})
            add_events(tx, [Event(EventKind.moved, run.id, run.account_id, now_ms, None, {"position": place})])
            return True


def _holding(_seq: int, run_id: str, number: int, account_id: str, node_id: str, slots: str, *row: Any) -> Holding:
    gpus, cpu_millis, memory_mib, class_id, priority, since_ms, limit_ms, stopping = row
    return Holding(
        run_id=run_id,
        attempt=number,
        account_id=account_id,
        node_id=node_id,
        slots=numbers(slots),
        resources=Resources(gpus, cpu_millis, memory_mib),
        class_id=class_id,
        priority=priority,
        since_ms=since_ms,
        limit_ms=limit_ms,
        stopping=bool(stopping),
    )


def _change_priority(tx: Transaction, run: Run, priority: int, now_ms: int) -> None:
    ready = run.ready_on is not None
    count_classes(tx, {run.class_id: -1}, {run.class_id: -ready})
    class_id = class_of(tx, run.account_id, priority, run.resources, 1)
    count_classes(tx, {}, {class_id: int(ready)})
    tx.change(
        "UPDATE runs SET priority = :priority, class_id = :class, version = version + 1 WHERE id = :id",
        priority=priority,
        id=run.id,
        **{"class": class_id},
    )
    if stands(run):
        block = run.rank // BLOCK
        count_blocks(tx, {(run.priority, block): -1, (priority, block): 1})
    tx.change(
        "UPDATE specs SET priority = :priority WHERE id = :spec AND priority < :priority",
        priority=priority,
        spec=run.spec_id,
    )
    body = {"priority": priority, "before": run.priority}
    add_events(tx, [Event(EventKind.priority, run.id, run.account_id, now_ms, None, body)])


def _heads(
    tx: Transaction, class_id: int, now_ms: int, count: int, expected_ms: int | None, opens_ms: int
) -> tuple[Head, ...]:
    granted = tx.rows(_GRANTED_HEADS, **{"class": class_id})
    rows = list(
        tx.rows(
            f"{_HEADS} AND not_before_ms <= :now ORDER BY rank LIMIT :count",
            now=now_ms,
            count=count,
            **{"class": class_id},
        )
    )
    if len(rows) < count:
        rest = count - len(rows)
        rows += tx.rows(
            f"{_HEADS} AND not_before_ms > 0 AND not_before_ms > :now AND not_before_ms < {GRANTED} "
            "ORDER BY not_before_ms, rank LIMIT :count",
            now=now_ms, count=rest, **{"class": class_id},
        )  # fmt: skip
    heads = [
        Head(run_id, rank, node, at, False, limit, expected_ms, opens_ms)
        if attempt or not at  # held back before its first attempt: until its start window
        else Head(run_id, rank, node, 0, False, limit, expected_ms, max(at, opens_ms))
        for run_id, rank, node, at, attempt, limit in rows
    ]
    heads += [Head(run_id, rank, node, 0, True, limit, expected_ms, opens_ms) for run_id, rank, node, limit in granted]
    return tuple(sorted(heads, key=lambda head: head.rank))


def _rank_at(tx: Transaction, run: Run, place: int) -> int | None:
    """The rank of the run that stands at a place (from 1) among the other waiting runs of the priority."""
    found: int | None = tx.value(
        f"SELECT rank {_OTHERS_WAITING} ORDER BY rank LIMIT 1 OFFSET :skip",
        id=run.id,
        priority=run.priority,
        skip=place - 1,
    )
    return found


def _make_room(tx: Transaction, run: Run, upper: int) -> int:
    """A rank directly below ``upper``, above all else that waits or may wait again there; neighbours give way."""
    count = 1
    below = _below(tx, run, upper, 1)
    rank = between(below[0][1] if below else None, upper)
    while rank is None:
        count *= 2
        below = _below(tx, run, upper, count + 1)
        floor = below[count][1] if len(below) > count else None
        stretch = below[:count]
        ranks = spread(floor, upper, len(stretch) + 1)
        if ranks is None:
            continue
        lowest_first = list(reversed(stretch))
        _renumber(tx, run.priority, lowest_first, ranks)
        rank = ranks[-1]
    return rank


def _below(tx: Transaction, run: Run, upper: int, count: int) -> list[Any]:
    """The ``count`` next runs below a rank, nearest first: (id, rank, spec, whether it stands in the queue)."""
    found: list[Any] = []
    for others in (_OTHERS_WAITING, _OTHERS_HOLDING):
        found += tx.rows(
            f"SELECT id, rank, spec_id, {_STANDS} {others} AND rank < :upper ORDER BY rank DESC LIMIT :count",
            id=run.id,
            priority=run.priority,
            upper=upper,
            count=count,
        )
    return sorted(found, key=lambda row: -row[1])[:count]


def _renumber(tx: Transaction, priority: int, lowest_first: Sequence[Any], ranks: Sequence[int]) -> None:
    rows = [{"id": row[0], "rank": rank} for row, rank in zip(lowest_first, ranks, strict=False)]
    tx.change_each("UPDATE runs SET rank = :rank WHERE id = :id", rows)
    standing = zip(lowest_first, ranks, strict=False)
    count_blocks(tx, moved(priority, [(row[1], rank) for row, rank in standing if row[3]]))
    find_stage_ranks(tx, {row[2] for row in lowest_first})
