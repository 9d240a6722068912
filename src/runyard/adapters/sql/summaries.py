"""Summaries of metrics, and how far each stream of points is taken in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runyard.adapters.sql.codec import insert_into
from runyard.adapters.sql.database import Database
from runyard.ports.summaries import MetricSummary

_KEY: Final = ("run_id", "grp", "name")
_FIELDS: Final = (
    "points", "last_ms", "first", "last", "last_step", "lowest", "lowest_step", "highest", "highest_step"
)  # fmt: skip
_PUT: Final = (
    insert_into("metric_summaries", _KEY + _FIELDS)
    + " ON CONFLICT (run_id, grp, name) DO UPDATE SET "
    + ", ".join(f"{field} = excluded.{field}" for field in _FIELDS)
)
_FOLDED: Final = (
    "SELECT folded FROM metric_streams WHERE run_id = :run_id AND attempt = :attempt AND learner = :learner"
)
_NOTE: Final = (
    insert_into("metric_streams", ("run_id", "attempt", "learner", "folded"))
    + " ON CONFLICT (run_id, attempt, learner) DO UPDATE SET folded = excluded.folded"
)


class SummaryTables:
    """What the points of metrics come to."""

    _db: Database

    def metric_folded(self, run_id: str, attempt: int, learner: int) -> int:
        with self._db.read() as tx:
            return int(tx.value(_FOLDED, run_id=run_id, attempt=attempt, learner=learner) or 0)

    def put_metrics(
        self, run_id: str, attempt: int, learner: int, before: int, after: int, summaries: Sequence[MetricSummary]
    ) -> bool:
        with self._db.write() as tx:
            found = tx.value(_FOLDED, run_id=run_id, attempt=attempt, learner=learner)
            if (found or 0) != before or tx.value("SELECT 1 FROM runs WHERE id = :id", id=run_id) is None:
                return False
            tx.change(_NOTE, run_id=run_id, attempt=attempt, learner=learner, folded=after)
            rows = [
                {"run_id": run_id, "grp": each.group, "name": each.name}
                | {field: getattr(each, field) for field in _FIELDS}
                for each in summaries
            ]
            tx.change_each(_PUT, rows)
            return True

    def metric_summaries(self, run_ids: Sequence[str]) -> Sequence[tuple[str, MetricSummary]]:
        columns = ", ".join((*_KEY, *_FIELDS))
        with self._db.read() as tx:
            rows = tx.those(
                f"SELECT {columns} FROM metric_summaries WHERE 1 = 1", "run_id", list(dict.fromkeys(run_ids))
            )
        place = {run_id: number for number, run_id in enumerate(run_ids)}
        found = [
            (str(row[0]), MetricSummary(row[1], row[2], **dict(zip(_FIELDS, row[3:], strict=True)))) for row in rows
        ]
        return sorted(found, key=lambda each: (place[each[0]], each[1].group, each[1].name))
