"""Calls about metrics."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from runyard.client.calls import Calls
from runyard.client.metric_records import Metrics
from runyard.client.records import Run
from runyard.client.run_calls import full_id
from runyard.client.transport import Request, Stream, path_of


@dataclass(frozen=True, slots=True)
class WhichMetrics:
    """Which metrics of a run: of a name, a group, a learner; None: all. ``after_step``: only points with a larger step;
    ``until_step``: only with none beyond it; ``limit``: at most so many points of a series (2 or more), thinned out so
    that the shape of the curve stays."""

    name: str | None = None
    group: str | None = None
    learner: int | None = None
    after_step: int | None = None
    limit: int | None = None
    until_step: int | None = None

    def query(self) -> dict[str, object]:
        """As the service reads it."""
        return {
            "name": self.name,
            "group": self.group,
            "learner": self.learner,
            "after_step": self.after_step,
            "until_step": self.until_step,
            "limit": self.limit,
        }


EVERYTHING = WhichMetrics()


class MetricCalls(Calls):
    """Metrics: what they come to, and their points."""

    def metrics(self, run: str | Run, which: WhichMetrics = EVERYTHING, *, points: bool = False) -> Metrics:
        """What the metrics of a run come to and, with ``points``, each series."""
        query = which.query() | {"points": points or None}
        return Metrics.of(self._get(path_of("training-runs", full_id(run), "metrics"), query))

    def read_metrics(self, run: str | Run, which: WhichMetrics = EVERYTHING) -> AbstractContextManager[Stream]:
        """All points as CSV, as they come; the first line names the columns."""
        query = which.query() | {"format": "csv"}
        path = path_of("training-runs", full_id(run), "metrics")
        return self._transport.stream(Request("GET", path, query, {"Accept": "text/csv"}))
