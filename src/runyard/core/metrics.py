"""Points of metrics: their columns, how many are thinned out for a chart, which of a run's metrics tell most."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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


def after_step(series: Series, step: int) -> Series:
    """The points with a larger step than that; points without a step do not count."""
    steps = series.steps
    return series.taken([i for i in range(len(steps)) if steps[i] > step])


def thinned(series: Series, most: int) -> Series:
    """At most ``most`` (2 or more) points that keep the curve's shape: the first, the last, and of each of the equal
    stretches between them the lowest and the highest, in their order; its first where it has no finite value."""
    count = len(series)
    if count <= most:
        return series
    stretches = max(0, (most - 2) // 2)
    kept = [0]
    for number in range(stretches):
        begin = 1 + (count - 2) * number // stretches
        end = 1 + (count - 2) * (number + 1) // stretches
        kept += _extremes(series.values, begin, end)
    return series.taken([*kept, count - 1])


def _extremes(values: Sequence[float], begin: int, end: int) -> list[int]:
    finite = [i for i in range(begin, end) if math.isfinite(values[i])]
    if not finite:
        return [begin] if begin < end else []
    low, high = min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)
    return sorted({low, high})


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
