"""Points of metrics come in and become summaries; and are read back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from runyard.core.metrics import (
    NO_STEP,
    Series,
    after_step,
    all_finite,
    empty_series,
    label,
    lower_is_better,
    most_telling,
    thinned,
)
from runyard.core.run import Run
from runyard.engine.bell import metric_topic
from runyard.engine.views import MetricView, iso
from runyard.engine.world import World
from runyard.ports.metrics import ALL_SERIES, MetricKey, Wanted
from runyard.ports.summaries import MetricSummary

PIECE = 8 << 20
"""Bytes of points that are held at once while they are summed up or written out."""


def take(world: World, key: MetricKey, offset: int, chunk: bytes) -> int:
    """Keep bytes of a stream of points and sum up what is whole of it; the size from which the sender goes on."""
    size = world.metrics.append(key, offset, chunk)
    if sum_up(world, key):
        world.bell.ring(metric_topic(key.run_id))
    return size


def sum_up(world: World, key: MetricKey) -> bool:
    """Bring a run's summaries up to what is there of a stream; says whether anything new was. A server that dies in
    between has done nothing, and does it when it next hears of the stream."""
    new = False
    with world.summing:
        before = world.store.metric_folded(key.run_id, key.attempt, key.learner)
        while (piece := world.metrics.read(key, before, PIECE)).after > before:
            if piece.notes:
                world.metrics.note(key.run_id, piece.notes)
            known = _known(world, key.run_id)
            fresh = [_with(known.get((each.group, each.name)), each) for each in piece.series]
            if not world.store.put_metrics(key.run_id, key.attempt, key.learner, before, piece.after, fresh):
                return new
            new, before = True, piece.after
    return new


def _known(world: World, run_id: str) -> dict[tuple[str, str], MetricSummary]:
    return {(each.group, each.name): each for _, each in world.store.metric_summaries([run_id])}


def _with(summary: MetricSummary | None, series: Series) -> MetricSummary:
    """A summary with more points in it."""
    if summary is None:
        summary = MetricSummary(series.group, series.name, 0, 0)
    summary = replace(summary, points=summary.points + len(series), last_ms=series.times[-1])
    values, steps = series.values, series.steps
    if not all_finite(values):
        finite = [i for i, value in enumerate(values) if math.isfinite(value)]
        if not finite:
            return summary
        series = series.taken(finite)
        values, steps = series.values, series.steps
    low, high = min(values), max(values)
    if summary.first is None:
        summary = replace(summary, first=values[0])
    if summary.lowest is None or low < summary.lowest:
        summary = replace(summary, lowest=low, lowest_step=_step(steps[values.index(low)]))
    if summary.highest is None or high > summary.highest:
        summary = replace(summary, highest=high, highest_step=_step(steps[values.index(high)]))
    return replace(summary, last=values[-1], last_step=_step(steps[-1]))


def _step(step: int) -> int | None:
    return None if step == NO_STEP else step


def metric_view(summary: MetricSummary) -> MetricView:
    """A summary as it is shown."""
    lower = lower_is_better(summary.name)
    return MetricView(
        group=summary.group,
        name=summary.name,
        points=summary.points,
        first=summary.first,
        last=summary.last,
        last_step=summary.last_step,
        last_at=iso(summary.last_ms),
        lowest=summary.lowest,
        lowest_step=summary.lowest_step,
        highest=summary.highest,
        highest_step=summary.highest_step,
        best=summary.lowest if lower else summary.highest,
        best_step=summary.lowest_step if lower else summary.highest_step,
    )


def summaries(world: World, run_id: str) -> list[MetricView]:
    """The metrics of a run, by group and name."""
    return [metric_view(summary) for _, summary in world.store.metric_summaries([run_id])]


def by_label(world: World, run_ids: Sequence[str], most: int | None = None) -> dict[str, dict[str, MetricView]]:
    """The metrics of some runs: by run and by ``group/name``. ``most``: only the few of each run that tell most."""
    found: dict[str, dict[tuple[str, str], MetricView]] = {}
    for run_id, summary in world.store.metric_summaries(run_ids):
        found.setdefault(run_id, {})[summary.group, summary.name] = metric_view(summary)
    return {
        run_id: {label(*each): views[each] for each in (views if most is None else most_telling(views, most))}
        for run_id, views in found.items()
    }


@dataclass(frozen=True, slots=True)
class Choice:
    """Which points are wanted. ``after_step``: only those with a larger step; ``limit``: at most so many (2 or more) of
    a series, thinned out so that its shape stays."""

    wanted: Wanted = ALL_SERIES
    after_step: int | None = None
    limit: int | None = None


def pieces(world: World, run: Run, choice: Choice) -> Iterator[Series]:
    """The points of a run as they were measured, attempt after attempt, learner after learner, a few at a time."""
    for key in _streams(world, run, choice.wanted):
        before = 0
        while (piece := world.metrics.read(key, before, PIECE, choice.wanted)).after > before:
            before = piece.after
            for series in piece.series:
                yield series if choice.after_step is None else after_step(series, choice.after_step)


def series(world: World, run: Run, choice: Choice) -> list[Series]:
    """Each series of a run and learner whole, the points of a later attempt behind those of the earlier."""
    found: dict[tuple[str, str, int], Series] = {}
    for piece in pieces(world, run, choice):
        name = (piece.group, piece.name, piece.learner)
        whole = found.get(name)
        if whole is None:
            whole = found[name] = empty_series(*name)
        whole.steps.extend(piece.steps)
        whole.times.extend(piece.times)
        whole.values.extend(piece.values)
    ordered = [found[name] for name in sorted(found)]
    return ordered if choice.limit is None else [thinned(each, choice.limit) for each in ordered]


def _streams(world: World, run: Run, wanted: Wanted) -> list[MetricKey]:
    return [key for key in world.metrics.streams(run.id) if wanted.learner in (None, key.learner)]


NEWS = 256 << 10

Offsets = Mapping[tuple[int, int], int]
"""How far the streams of a run were told, by attempt and learner."""


def news(world: World, run: Run, choice: Choice, told: Offsets) -> tuple[list[Series], Offsets, bool]:
    """What came since ``told``, about :data:`NEWS` bytes of it: the points, how far that is, whether there is more."""
    for key in _streams(world, run, choice.wanted):
        before = told.get((key.attempt, key.learner), 0)
        piece = world.metrics.read(key, before, NEWS, choice.wanted)
        if piece.after > before:
            found = [
                each if choice.after_step is None else after_step(each, choice.after_step) for each in piece.series
            ]
            return [each for each in found if len(each)], {**told, (key.attempt, key.learner): piece.after}, True
    return [], told, False
