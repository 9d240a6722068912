"""Summaries of metrics in memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from runyard.core.run import Run
from runyard.ports.summaries import MetricSummary, Taking


class MemorySummaries:
    """A :class:`runyard.ports.summaries.Summaries`, to be mixed into a store that has runs and a lock."""

    _lock: threading.RLock
    _runs: dict[str, Run]

    def __init__(self) -> None:
        super().__init__()
        self._folded: dict[tuple[str, int, int], int] = {}
        self._summaries: dict[tuple[str, str, str], MetricSummary] = {}

    def metric_folded(self, run_id: str, attempt: int, learner: int) -> int:
        with self._lock:
            return self._folded.get((run_id, attempt, learner), 0)

    def put_metrics(self, takings: Sequence[Taking]) -> Sequence[bool]:
        with self._lock:
            return [self._take_in(each) for each in takings]

    def _take_in(self, taking: Taking) -> bool:
        run_id = taking.run_id
        if run_id not in self._runs:
            return False
        if any(self._folded.get((run_id, *stream[:2]), 0) != stream[2] for stream in taking.streams):
            return False
        for attempt, learner, _, after in taking.streams:
            self._folded[run_id, attempt, learner] = after
        for each in taking.summaries:
            self._summaries[run_id, each.group, each.name] = each
        return True

    def metric_summaries(self, run_ids: Sequence[str]) -> Sequence[tuple[str, MetricSummary]]:
        with self._lock:
            return [
                (run_id, self._summaries[key])
                for run_id in dict.fromkeys(run_ids)
                for key in sorted(key for key in self._summaries if key[0] == run_id)
            ]

    def _forget_metrics(self, run_id: str) -> None:
        self._folded = {key: folded for key, folded in self._folded.items() if key[0] != run_id}
        self._summaries = {key: each for key, each in self._summaries.items() if key[0] != run_id}
