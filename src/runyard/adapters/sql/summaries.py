"""Summaries of metrics, and how far each stream of points is taken in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runyard.adapters.sql.codec import insert_into
from runyard.adapters.sql.database import Database
from runyard.ports.summaries import MetricSummary, Taking

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
_ALL_FOLDED: Final = "SELECT run_id, attempt, learner, folded FROM metric_streams WHERE 1 = 1"
_NOTE: Final = (
    insert_into("metric_streams", ("run_id", "attempt", "learner", "folded"))
    + " ON CONFLICT (run_id, attempt, learner) DO UPDATE SET folded = excluded.folded"
)


def _notes(taking: Taking) -> list[dict[str, object]]:
    return [
        {"run_id": taking.run_id, "attempt": attempt, "learner": learner, "folded": after}
        for attempt, learner, _, after in taking.streams
    ]


def _rows(taking: Taking) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for each in taking.summaries:
        row: dict[str, object] = {"run_id": taking.run_id, "grp": each.group, "name": each.name}
        found.append(row | {field: getattr(each, field) for field in _FIELDS})
    return found


class SummaryTables:
    """What the points of metrics come to."""

    _db: Database

    def metric_folded(self, run_id: str, attempt: int, learner: int) -> int:
        with self._db.read() as tx:
            return int(tx.value(_FOLDED, run_id=run_id, attempt=attempt, learner=learner) or 0)

    def put_metrics(self, takings: Sequence[Taking]) -> Sequence[bool]:
        run_ids = [each.run_id for each in takings]
        with self._db.write() as tx:
            there = {row[0] for row in tx.those("SELECT id FROM runs WHERE 1 = 1", "id", run_ids)}
            folded = {tuple(row[:3]): row[3] for row in tx.those(_ALL_FOLDED, "run_id", run_ids)}
            fits = [
                each.run_id in there
                and all(folded.get((each.run_id, *stream[:2]), 0) == stream[2] for stream in each.streams)
                for each in takings
            ]
            taken = [each for each, fit in zip(takings, fits, strict=True) if fit]
            tx.change_each(_NOTE, [row for each in taken for row in _notes(each)])
            tx.change_each(_PUT, [row for each in taken for row in _rows(each)])
        return fits

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
