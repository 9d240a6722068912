"""Which runs wait for which others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from runyard.adapters.sql.codec import insert_into
from runyard.adapters.sql.database import Database, Transaction
from runyard.adapters.sql.schema import BLOCKED_RUNS
from runyard.core.run import BLOCKED, StateName

_INSERT: Final = insert_into("dependencies", ("run_id", "after_id", "position"))
_ALL: Final = "SELECT run_id, position, after_id FROM dependencies WHERE true"
_WAITING_FOR: Final = "SELECT run_id FROM dependencies WHERE true"
_STANDING: Final = "SELECT id, seq, state, not_before_ms FROM runs WHERE true"

# In the order of ``ix_runs_blocked``: by ``seq`` alone, and by an equal sign in PostgreSQL, a planner may walk all runs
# by their key. SQLite reads a stretch of an index by an equal sign.
_BLOCKED: Final = f"SELECT seq, id FROM runs WHERE {BLOCKED_RUNS} AND "
_BEYOND: Final = {
    True: f"not_before_ms = {BLOCKED} AND seq > :after",
    False: f"(not_before_ms, seq) > ({BLOCKED}, :after)",
}
"""By whether it is SQLite."""
_IN_ORDER: Final = " ORDER BY not_before_ms, seq LIMIT :limit"


class DependencyTables:
    """Who waits for whom."""

    _db: Database

    def dependencies(self, run_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        found: defaultdict[str, list[str]] = defaultdict(list)
        with self._db.read() as tx:
            rows = tx.those(_ALL, "run_id", list(dict.fromkeys(run_ids)))
        for run_id, _position, after_id in sorted(rows):
            found[run_id].append(after_id)
        return found

    def dependents(self, run_ids: Sequence[str], limit: int) -> Sequence[str]:
        with self._db.read() as tx:
            waiting = {row[0] for row in tx.those(_WAITING_FOR, "after_id", list(dict.fromkeys(run_ids)))}
            # Read by id, and chosen here: asked in one, a planner with old statistics begins with all that are blocked.
            rows = tx.those(_STANDING, "id", sorted(waiting))
        blocked = [(row[1], row[0]) for row in rows if row[2] == StateName.waiting and row[3] >= BLOCKED]
        return [run_id for _seq, run_id in sorted(blocked)[:limit]]

    def blocked(self, after_seq: int, limit: int) -> Sequence[tuple[int, str]]:
        with self._db.read() as tx:
            rows = tx.rows(_BLOCKED + _BEYOND[tx.is_sqlite] + _IN_ORDER, after=after_seq, limit=limit)
        return [(row[0], row[1]) for row in rows]


def add_dependencies(tx: Transaction, run_ids: Sequence[str], after: Sequence[str]) -> None:
    """Note that each of these new runs waits for each of those."""
    rows = [
        {"run_id": run_id, "after_id": after_id, "position": position}
        for run_id in run_ids
        for position, after_id in enumerate(dict.fromkeys(after))
    ]
    tx.change_each(_INSERT, rows)
