"""The store of record, as far as metrics go: a summary row for each run and name; the points are elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """One metric of one run: how many points, and the first, last, lowest and highest of its finite values (None: there
    is none) with their steps (None: the point had none). ``last_ms``: time of the last point."""

    group: str
    name: str
    points: int
    last_ms: int
    first: float | None = None
    last: float | None = None
    last_step: int | None = None
    lowest: float | None = None
    lowest_step: int | None = None
    highest: float | None = None
    highest_step: int | None = None


@dataclass(frozen=True, slots=True)
class Taking:
    """What new points of a run come to. ``streams``: which were taken in (attempt, learner), from where and up to
    where; ``summaries``: those that are other than before."""

    run_id: str
    streams: Sequence[tuple[int, int, int, int]]
    summaries: Sequence[MetricSummary]


class Summaries(Protocol):
    """Summaries, and how much of each stream of points they have taken in."""

    def metric_folded(self, run_id: str, attempt: int, learner: int) -> int:
        """Bytes of a stream that the summaries have taken in, 0 for none."""
        ...

    def put_metrics(self, takings: Sequence[Taking]) -> Sequence[bool]:
        """For each run: replace these summaries, and note how far its streams are taken in; all in one transaction.
        Of a run nothing happens, and its answer is False, unless each of its streams was where it is said to have been
        (or when the run is gone). A run comes once."""
        ...

    def metric_summaries(self, run_ids: Sequence[str]) -> Sequence[tuple[str, MetricSummary]]:
        """The summaries of some runs, by run (in the order given), group and name."""
        ...
