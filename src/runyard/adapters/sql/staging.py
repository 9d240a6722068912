"""Which code and data to make ready, and where they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runyard.adapters.sql.changes import count_classes, find_stage_ranks
from runyard.adapters.sql.codec import to_json
from runyard.adapters.sql.database import Database, Transaction
from runyard.adapters.sql.environments import put_facts
from runyard.adapters.sql.runs import fetch_runs
from runyard.core import lifecycle
from runyard.core.run import Run
from runyard.ports.environments import NO_FACTS, SpecFacts

_UNREADY: Final = "spec_id = :spec AND state = 'waiting' AND ready_on IS NULL"
_SOME: Final = f"{_UNREADY} AND rank < :beyond"
_READY: Final = "spec_id = :spec AND state = 'waiting' AND ready_on IS NOT NULL"
_TELL_STAGED: Final = (
    "INSERT INTO events (seq, kind, run_id, account_id, at_ms, attempt, body) "
    "SELECT :first - 1 + row_number() OVER (ORDER BY rank), :kind, id, account_id, :now, NULL, :body "
    f"FROM runs WHERE {_SOME}"
)
AT_ONCE: Final = 5000
"""So many runs are marked in one transaction."""
_BEYOND_ALL: Final = (1 << 63) - 1
_READY_ON: Final = "state = 'waiting' AND ready_on = :node"


class StagingTables:
    """Specs that wait for a node to fetch what they need."""

    _db: Database

    def specs_to_stage(self, limit: int) -> Sequence[int]:
        with self._db.read() as tx:
            rows = tx.rows(
                "SELECT id FROM specs WHERE stage_rank IS NOT NULL ORDER BY priority DESC, stage_rank LIMIT :limit",
                limit=limit,
            )
        return [row[0] for row in rows]

    def mark_staged(
        self, spec_id: int, node_id: str, now_ms: int, fetched: int = 0, facts: SpecFacts = NO_FACTS
    ) -> int:
        marked = 0
        while True:  # some in each transaction: others write in between
            with self._db.write() as tx:
                count = _mark_some(tx, spec_id, node_id, now_ms, fetched)
                if facts != NO_FACTS and not marked:
                    put_facts(tx, spec_id, facts)
            marked += count
            if count < AT_ONCE:
                return marked

    def unstage(self, node_id: str) -> int:
        with self._db.write() as tx:
            groups = tx.rows(
                f"SELECT class_id, spec_id, count(*) FROM runs WHERE {_READY_ON} GROUP BY class_id, spec_id",
                node=node_id,
            )
            tx.change(
                f"UPDATE runs SET ready_on = NULL, staged_ms = NULL, version = version + 1 WHERE {_READY_ON}",
                node=node_id,
            )
            for class_id, _spec_id, count in groups:
                count_classes(tx, {}, {class_id: -count})
            find_stage_ranks(tx, {spec_id for _class_id, spec_id, _count in groups})
            return sum(count for _class_id, _spec_id, count in groups)

    def waiting_of_spec(self, spec_id: int, limit: int) -> Sequence[Run]:
        with self._db.read() as tx:
            found = [
                row
                for runs in (_UNREADY, _READY)
                for row in tx.rows(
                    f"SELECT rank, id FROM runs WHERE {runs} ORDER BY rank LIMIT :limit", spec=spec_id, limit=limit
                )
            ]
            return fetch_runs(tx, [run_id for _rank, run_id in sorted(found)[:limit]])


def mark_all(tx: Transaction, spec_id: int, node_id: str, now_ms: int) -> None:
    """Mark all waiting runs of a spec as ready on a node."""
    while _mark_some(tx, spec_id, node_id, now_ms) == AT_ONCE:
        pass


def _mark_some(tx: Transaction, spec_id: int, node_id: str, now_ms: int, fetched: int = 0) -> int:
    """Mark the first ``AT_ONCE`` waiting runs of a spec that are not ready as ready on a node; returns how many those
    are."""
    head = tx.row(f"SELECT id FROM runs WHERE {_UNREADY} ORDER BY rank LIMIT 1", spec=spec_id)
    if head is None:
        return 0
    pattern = lifecycle.staged(fetch_runs(tx, [head[0]])[0], node_id, now_ms, fetched)
    assert pattern is not None
    return _mark_like(tx, pattern)


def _mark_like(tx: Transaction, pattern: lifecycle.Transition) -> int:
    """Do to the first runs of a spec, in three statements, what the pattern does to the very first of them."""
    after, (event,) = pattern.after, pattern.events
    beyond = tx.value(
        f"SELECT rank FROM runs WHERE {_UNREADY} ORDER BY rank LIMIT 1 OFFSET :count", spec=after.spec_id, count=AT_ONCE
    )
    some = {"spec": after.spec_id, "beyond": _BEYOND_ALL if beyond is None else beyond}
    count = int(tx.value(f"SELECT count(*) FROM runs WHERE {_SOME}", **some))
    first = tx.take("event", count)
    body = to_json(dict(event.body))
    tx.change(_TELL_STAGED, first=first, kind=event.kind.value, now=event.at_ms, body=body, **some)
    tx.change(
        f"UPDATE runs SET ready_on = :node, staged_ms = :staged, version = version + 1 WHERE {_SOME}",
        node=after.ready_on,
        staged=after.staged_ms,
        **some,
    )
    count_classes(tx, {}, {after.class_id: count})
    find_stage_ranks(tx, {after.spec_id})
    return count
