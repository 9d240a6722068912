"""Points of metrics: their columns, how many are thinned out for a chart, which of a run's metrics tell most."""

from __future__ import annotations

import math
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

NO_STEP: Final = -(1 << 63)
"""Stands in a column of steps for a point that has none."""


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one metric in the order they came: three columns of the same length.

    ``steps`` (64-bit, :data:`NO_STEP` for none), ``times`` in milliseconds since 1970 UTC (64-bit), ``values`` (double
    precision; NaN and infinities are values). ``attempt`` and ``learner``: who measured them.
    """

    group: str
    name: str
    steps: array[int]
    times: array[int]
    values: array[float]
    learner: int = 1
    attempt: int = 1

    def __len__(self) -> int:
        return len(self.values)

    def taken(self, indices: Sequence[int]) -> Series:
        """The points at some places."""
        return Series(
            self.group,
            self.name,
            array("q", (self.steps[i] for i in indices)),
            array("q", (self.times[i] for i in indices)),
            array("d", (self.values[i] for i in indices)),
            self.learner,
            self.attempt,
        )


def empty_series(group: str, name: str, learner: int = 1, attempt: int = 1) -> Series:
    """A series without points, to be filled."""
    return Series(group, name, array("q"), array("q"), array("d"), learner, attempt)


def all_finite(values: Sequence[float]) -> bool:
    """Whether no value is NaN or an infinity."""
    return math.isfinite(sum(values)) or all(map(math.isfinite, values))


@dataclass(frozen=True, slots=True)
class Window:
    """Which points are wanted by their steps: those above ``after`` and not above ``until``; None: there is no
    such end. Points without a step are in no window that has an end."""

    after: int | None = None
    until: int | None = None

    @property
    def open(self) -> bool:
        """Whether every point is in it."""
        return self.after is None and self.until is None

    def holds(self, lowest: int, highest: int) -> bool | None:
        """Whether points with steps from ``lowest`` to ``highest`` (:data:`NO_STEP` for none) are all in it (True),
        none of them (False), or perhaps some (None)."""
        after = NO_STEP if self.after is None else self.after
        until = -NO_STEP if self.until is None else self.until
        if self.open or (after < lowest and highest <= until):
            return True
        return False if highest <= after or lowest > until else None

    def cut(self, series: Series) -> Series:
        """The points of a series that are in it."""
        if self.open:
            return series
        after = NO_STEP if self.after is None else self.after
        until = -NO_STEP if self.until is None else self.until
        return series.taken([i for i, step in enumerate(series.steps) if after < step <= until])


WHOLE: Final = Window()
"""The window that holds every point."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What a chart of a series needs: some of its points in their order, always the first and the last, with the place
    (from 0) of each among all ``total`` points."""

    series: Series
    places: array[int] = field(default_factory=lambda: array("q"))
    total: int = 0

    def followed_by(self, other: Outline) -> Outline:
        """The outline of this series and what comes after it."""
        return Outline(
            joined(self.series, other.series),
            self.places + array("q", (self.total + place for place in other.places)),
            self.total + other.total,
        )

    def thinned(self, most: int) -> Series:
        """At most ``most`` (2 or more) points that keep the curve's shape: the first, the last, and of each of the
        equal stretches between them the lowest and the highest, in their order; its first where none is finite."""
        count = self.total
        if count <= most and len(self.places) == count:
            return self.series
        stretches = max(0, (most - 2) // 2)
        kept = [0]
        begin = 1
        for number in range(1, stretches + 1):
            end = bisect_left(self.places, 1 + (count - 2) * number // stretches, begin)
            end = min(end, len(self.places) - 1)
            kept += extremes(self.series.values, begin, end)
            begin = end
        return self.series.taken([*kept, len(self.places) - 1])


def whole_outline(series: Series) -> Outline:
    """The outline that has every point of a series."""
    return Outline(series, array("q", range(len(series))), len(series))


def joined(first: Series, second: Series) -> Series:
    """The points of one series behind those of another."""
    return Series(
        first.group,
        first.name,
        first.steps + second.steps,
        first.times + second.times,
        first.values + second.values,
        first.learner,
        first.attempt,
    )


def thinned(series: Series, most: int) -> Series:
    """At most ``most`` (2 or more) points of a series that keep its shape: see :meth:`Outline.thinned`."""
    return series if len(series) <= most else whole_outline(series).thinned(most)


def extremes(values: Sequence[float], begin: int, end: int) -> list[int]:
    """Where the lowest and the highest finite value of a stretch are (the first of equal ones), in order; its beginning
    where it has none; nothing of an empty stretch."""
    part = values[begin:end]
    if not part:
        return []
    if not all_finite(part):
        finite = [value for value in part if math.isfinite(value)]
        if not finite:
            return [begin]
        low, high = min(finite), max(finite)
    else:
        low, high = min(part), max(part)
    return sorted({begin + part.index(low), begin + part.index(high)})


_LOWER_IS_BETTER: Final = re.compile(
    r"loss|err|perplexity|(^|[^a-z])(ppl|mse|mae|rmse|mape|nll|wer|cer|fid|eer|bpc|bpd|kl|cost)([^a-z]|$)",
    re.IGNORECASE,
)


def lower_is_better(name: str) -> bool:
    """Whether a metric's name says that it is to become small. A guess, for what is shown as its best value."""
    return _LOWER_IS_BETTER.search(name) is not None


_TELLING: Final = (
    (re.compile(r"hparam", re.IGNORECASE), 9),
    (re.compile(r"(val|valid|eval|test|dev).*(acc|f1|auc|bleu|score|map|iou)", re.IGNORECASE), 0),
    (re.compile(r"(val|valid|eval|test|dev).*loss", re.IGNORECASE), 1),
    (re.compile(r"acc|f1|auc|bleu|score|reward|iou", re.IGNORECASE), 2),
    (re.compile(r"loss", re.IGNORECASE), 3),
    (re.compile(r"err|perplexity|ppl|mse|mae", re.IGNORECASE), 4),
    (re.compile(r"(^|[^a-z])(lr|learning_?rate|epoch|step|time|grad|norm|throughput|memory)", re.IGNORECASE), 8),
)
"""What tells most about a run comes first: names that are matched with their group in front; other names between."""
_OTHER: Final = 6


def most_telling(metrics: Iterable[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    """Of metrics (group, name) the few that tell most about a run, best first: quality before loss, what was measured
    on data held back before what was measured in training."""

    def rank(metric: tuple[str, str]) -> int:
        text = "/".join(filter(None, metric))
        return next((rank for pattern, rank in _TELLING if pattern.search(text)), _OTHER)

    return sorted(metrics, key=lambda metric: (rank(metric), metric))[:count]


def label(group: str, name: str) -> str:
    """How a metric is called where it needs one name: ``group/name``, or the name alone."""
    return f"{group}/{name}" if group else name
