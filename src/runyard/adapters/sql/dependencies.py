"""Which runs wait for which others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from runyard.adapters.sql.codec import insert_into
from runyard.adapters.sql.database import Database, Transaction
from runyard.adapters.sql.schema import BLOCKED_RUNS

_INSERT: Final = insert_into("dependencies", ("run_id", "after_id", "position"))
_ALL: Final = "SELECT run_id, position, after_id FROM dependencies WHERE true"
_BLOCKED_BY: Final = f"SELECT r.seq, r.id FROM dependencies d JOIN runs r ON r.id = d.run_id WHERE {BLOCKED_RUNS}"


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
            rows = tx.those(_BLOCKED_BY, "d.after_id", list(dict.fromkeys(run_ids)))
        return [run_id for _seq, run_id in sorted(set(rows))[:limit]]

    def blocked(self, after_seq: int, limit: int) -> Sequence[tuple[int, str]]:
        with self._db.read() as tx:
            rows = tx.rows(
                f"SELECT seq, id FROM runs WHERE {BLOCKED_RUNS} AND seq > :after ORDER BY seq LIMIT :limit",
                after=after_seq,
                limit=limit,
            )
        return [(row[0], row[1]) for row in rows]


def add_dependencies(tx: Transaction, run_ids: Sequence[str], after: Sequence[str]) -> None:
    """Note that each of these new runs waits for each of those."""
    rows = [
        {"run_id": run_id, "after_id": after_id, "position": position}
        for run_id in run_ids
        for position, after_id in enumerate(dict.fromkeys(after))
    ]
    tx.change_each(_INSERT, rows)
