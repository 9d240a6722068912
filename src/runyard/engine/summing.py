"""Points become summaries: what is new in streams is folded in, many runs in one transaction."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from runyard.core.metrics import NO_STEP, Series, all_finite
from runyard.ports.metrics import MetricKey, MetricStore
from runyard.ports.summaries import MetricSummary, Summaries, Taking

PIECE = 8 << 20
"""Bytes of points that are held at once while they are summed up or written out."""
MOST_KEPT = 20_000
"""Summaries that are remembered, some MB."""
QUIET_S = 600.0
"""A run of which no points come for so long is remembered no more: it has ended, most likely."""

Name = tuple[str, str]


@dataclass(slots=True)
class _Known:
    """What the store has of a run: how far its streams are taken in, and its summaries. ``asked_s``: when it was last
    asked for; they stand in that order."""

    summaries: dict[Name, MetricSummary]
    folded: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    asked_s: float = 0.0


@dataclass(slots=True)
class _News:
    """What new points of a run come to."""

    streams: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict[tuple[int, int], tuple[int, int]])
    summaries: dict[Name, MetricSummary] = field(default_factory=dict[Name, MetricSummary])

    def taking(self, run_id: str) -> Taking:
        """As the store takes it."""
        return Taking(run_id, [(*stream, *span) for stream, span in self.streams.items()], [*self.summaries.values()])


class Summing:
    """Folds points into summaries, one batch after the other. It remembers what the store has of the runs it saw last;
    the store refuses what does not go on from there, and then it asks again."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._kept = 0

    def sum_up(self, store: Summaries, metrics: MetricStore, keys: Iterable[MetricKey]) -> set[str]:
        """Bring the summaries of runs up to what is there of streams; the runs of which something was new. A server
        that dies in between has done nothing, and does it when it next hears of the stream."""
        new: set[str] = set()
        refused: set[str] = set()
        pending = list(dict.fromkeys(keys))
        with self._lock:
            while pending:
                self._load(store, {key.run_id for key in pending})
                news = self._read(store, metrics, pending)
                if not news:
                    break
                fits = store.put_metrics([each.taking(run_id) for run_id, each in news.items()])
                again: set[str] = set()
                for (run_id, each), fit in zip(news.items(), fits, strict=True):
                    if fit:
                        self._keep(run_id, each)
                        new.add(run_id)
                        if any(after - before >= PIECE for before, after in each.streams.values()):
                            again.add(run_id)  # there is more than was read at once
                    else:
                        self._forget(run_id)
                        again |= {run_id} - refused  # once more, from what the store has
                        refused.add(run_id)
                pending = [key for key in pending if key.run_id in again]
            self._make_room()
        return new

    def _load(self, store: Summaries, run_ids: set[str]) -> None:
        missing = [run_id for run_id in run_ids if run_id not in self._known]
        for run_id in missing:
            self._known[run_id] = _Known({})
        now = self._monotonic()
        for run_id in run_ids:
            self._known[run_id].asked_s = now
            self._known.move_to_end(run_id)
        for run_id, summary in store.metric_summaries(missing) if missing else ():
            self._known[run_id].summaries[summary.group, summary.name] = summary
            self._kept += 1

    def _read(self, store: Summaries, metrics: MetricStore, keys: Sequence[MetricKey]) -> dict[str, _News]:
        found: dict[str, _News] = {}
        for key in keys:
            known, stream = self._known[key.run_id], (key.attempt, key.learner)
            before = known.folded.get(stream)
            if before is None:
                before = known.folded[stream] = store.metric_folded(key.run_id, key.attempt, key.learner)
            piece = metrics.read(key, before, PIECE)
            if piece.after <= before:
                continue
            if piece.notes:
                metrics.note(key.run_id, piece.notes)
            news = found.setdefault(key.run_id, _News())
            news.streams[stream] = (before, piece.after)
            for series in piece.series:
                name = series.group, series.name
                news.summaries[name] = with_points(news.summaries.get(name) or known.summaries.get(name), series)
        return found

    def _keep(self, run_id: str, news: _News) -> None:
        known = self._known[run_id]
        self._kept -= len(known.summaries)
        known.summaries |= news.summaries
        self._kept += len(known.summaries)
        known.folded |= {stream: after for stream, (_, after) in news.streams.items()}

    def _forget(self, run_id: str) -> None:
        self._kept -= len(self._known.pop(run_id).summaries)

    def _make_room(self) -> None:
        old = self._monotonic() - QUIET_S
        while self._known:
            run_id, known = next(iter(self._known.items()))
            if known.asked_s >= old and self._kept + len(self._known) <= MOST_KEPT:
                return
            self._forget(run_id)


def with_points(summary: MetricSummary | None, series: Series) -> MetricSummary:
    """A summary with more points in it, at least one."""
    if summary is None:
        summary = MetricSummary(series.group, series.name, 0, 0)
    points, last_ms = summary.points + len(series), series.times[-1]
    if not all_finite(series.values):
        series = series.taken([i for i, value in enumerate(series.values) if math.isfinite(value)])
    values, steps = series.values, series.steps
    if not values:
        return _summary(summary, points, last_ms, summary.first, (summary.last, summary.last_step), None, None)
    low, high = min(values), max(values)
    lower = summary.lowest is None or low < summary.lowest
    higher = summary.highest is None or high > summary.highest
    return _summary(
        summary,
        points,
        last_ms,
        values[0] if summary.first is None else summary.first,
        (values[-1], _step(steps[-1])),
        (low, _step(steps[values.index(low)])) if lower else None,
        (high, _step(steps[values.index(high)])) if higher else None,
    )


def _summary(
    before: MetricSummary,
    points: int,
    last_ms: int,
    first: float | None,
    last: tuple[float | None, int | None],
    lowest: tuple[float, int | None] | None,
    highest: tuple[float, int | None] | None,
) -> MetricSummary:
    low = (before.lowest, before.lowest_step) if lowest is None else lowest
    high = (before.highest, before.highest_step) if highest is None else highest
    return MetricSummary(before.group, before.name, points, last_ms, first, *last, *low, *high)


def _step(step: int) -> int | None:
    return None if step == NO_STEP else step
