"""What the service tells of metrics, as values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, cast

from runyard.client.decode import (
    Json,
    children,
    integer,
    integer_or_none,
    moment,
    number_or_none,
    text,
    texts,
)


@dataclass(frozen=True, slots=True)
class Metric:
    """What the points of a metric come to. ``first``, ``last``, ``lowest``, ``highest`` and ``best`` are of its finite
    values, None without any; ``best`` is the lowest of a loss or an error, else the highest."""

    group: str
    name: str
    points: int
    first: float | None
    last: float | None
    last_step: int | None
    last_at: datetime | None
    lowest: float | None
    lowest_step: int | None
    highest: float | None
    highest_step: int | None
    best: float | None
    best_step: int | None
    raw: Json = field(repr=False)

    @property
    def label(self) -> str:
        """``group/name``, or the name alone."""
        return f"{self.group}/{self.name}" if self.group else self.name

    @staticmethod
    def of(raw: Json) -> Metric:
        """Read one."""
        return Metric(
            group=text(raw, "group"),
            name=text(raw, "name"),
            points=integer(raw, "points"),
            first=number_or_none(raw, "first"),
            last=number_or_none(raw, "last"),
            last_step=integer_or_none(raw, "last_step"),
            last_at=moment(raw, "last_at"),
            lowest=number_or_none(raw, "lowest"),
            lowest_step=integer_or_none(raw, "lowest_step"),
            highest=number_or_none(raw, "highest"),
            highest_step=integer_or_none(raw, "highest_step"),
            best=number_or_none(raw, "best"),
            best_step=integer_or_none(raw, "best_step"),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one metric and learner in the order they came: columns of one length. A step is None where there was
    none; times are milliseconds since 1970 UTC; values may be NaN or infinite. ``attempt``: None where the points of
    several attempts follow each other."""

    group: str
    name: str
    learner: int
    steps: tuple[int | None, ...]
    times_ms: tuple[int, ...]
    values: tuple[float, ...]
    attempt: int | None = None

    @property
    def label(self) -> str:
        """``group/name``, or the name alone."""
        return f"{self.group}/{self.name}" if self.group else self.name

    @staticmethod
    def of(raw: Json) -> Series:
        """Read one."""
        return Series(
            group=text(raw, "group"),
            name=text(raw, "name"),
            learner=integer(raw, "learner"),
            steps=tuple(each if isinstance(each, int) else None for each in _column(raw, "steps")),
            times_ms=tuple(each for each in _column(raw, "times_ms") if isinstance(each, int)),
            values=tuple(_value(each) for each in _column(raw, "values")),
            attempt=integer_or_none(raw, "attempt"),
        )


@dataclass(frozen=True, slots=True)
class Metrics:
    """The metrics of a run. ``series`` is there where points were asked for; ``notes``: sentences on how they were
    found."""

    run: str
    items: tuple[Metric, ...]
    notes: tuple[str, ...]
    series: tuple[Series, ...]
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Metrics:
        """Read them."""
        return Metrics(
            text(raw, "id"),
            tuple(Metric.of(each) for each in children(raw, "items")),
            texts(raw, "notes"),
            tuple(Series.of(each) for each in children(raw, "series")),
            raw,
        )


@dataclass(frozen=True, slots=True)
class NewPoints:
    """Points that a followed run has measured since the last ones, each series of one attempt."""

    run: str
    series: tuple[Series, ...]


_WORDS: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _column(raw: Json, key: str) -> list[object]:
    value = raw.get(key)
    return cast("list[object]", value) if isinstance(value, list) else []


def _value(value: object) -> float:
    """A value as JSON has it: a number, or a word for one that is not finite."""
    return float(value) if isinstance(value, int | float) else _WORDS.get(str(value), math.nan)
