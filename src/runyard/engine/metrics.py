"""Points of metrics come in and become summaries; and are read back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from runyard.core.metrics import (
    WHOLE,
    Outline,
    Series,
    Window,
    empty_series,
    label,
    lower_is_better,
    most_telling,
)
from runyard.core.run import Run
from runyard.engine.bell import metric_topic
from runyard.engine.summing import PIECE
from runyard.engine.views import MetricView, iso
from runyard.engine.world import World
from runyard.ports.metrics import ALL_SERIES, MetricKey, Wanted
from runyard.ports.summaries import MetricSummary

Range = tuple[MetricKey, int, bytes]
"""Bytes of a stream of points, and their offset in it."""


def take(world: World, key: MetricKey, offset: int, chunk: bytes) -> int:
    """Keep bytes of a stream of points and sum up what is whole of it; the size from which the sender goes on."""
    return take_many(world, [(key, offset, chunk)])[0]


def take_many(world: World, ranges: Sequence[Range]) -> list[int]:
    """The same for many streams: their summaries are brought up to date in one transaction. A stream may come several
    times, in order; its sizes are then those after each."""
    sizes = [world.metrics.append(key, offset, chunk) for key, offset, chunk in ranges]
    new = world.summing.sum_up(world.store, world.metrics, [key for key, _, _ in ranges])
    world.bell.ring(*map(metric_topic, new))
    return sizes


def sum_up(world: World, key: MetricKey) -> bool:
    """Bring a run's summaries up to what is there of a stream; says whether anything new was."""
    return bool(world.summing.sum_up(world.store, world.metrics, [key]))


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
    """Which points are wanted. ``limit``: at most so many (2 or more) of a series, thinned out so that its shape
    stays."""

    wanted: Wanted = ALL_SERIES
    window: Window = WHOLE
    limit: int | None = None


def pieces(world: World, run: Run, choice: Choice) -> Iterator[Series]:
    """The points of a run as they were measured, attempt after attempt, learner after learner, a few at a time."""
    for key in _streams(world, run, choice.wanted):
        before = 0
        while (piece := world.metrics.read(key, before, PIECE, choice.wanted)).after > before:
            before = piece.after
            yield from map(choice.window.cut, piece.series)


def series(world: World, run: Run, choice: Choice) -> list[Series]:
    """Each series of a run and learner whole, the points of a later attempt behind those of the earlier."""
    if choice.limit is not None:
        return _charts(world, run, choice, choice.limit)
    found: dict[tuple[str, str, int], Series] = {}
    for piece in pieces(world, run, choice):
        name = (piece.group, piece.name, piece.learner)
        whole = found.get(name)
        if whole is None:
            whole = found[name] = empty_series(*name)
        whole.steps.extend(piece.steps)
        whole.times.extend(piece.times)
        whole.values.extend(piece.values)
    return [found[name] for name in sorted(found)]


def _charts(world: World, run: Run, choice: Choice, limit: int) -> list[Series]:
    """The same with few points: what is read does not grow with how many there are."""
    found: dict[tuple[str, str, int], Outline] = {}
    for key in _streams(world, run, choice.wanted):
        for each in world.metrics.outlines(key, choice.wanted, choice.window, limit // 2):
            name = (each.series.group, each.series.name, key.learner)
            found[name] = found[name].followed_by(each) if name in found else each
    return [found[name].thinned(limit) for name in sorted(found)]


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
            found = map(choice.window.cut, piece.series)
            return [each for each in found if len(each)], {**told, (key.attempt, key.learner): piece.after}, True
    return [], told, False
