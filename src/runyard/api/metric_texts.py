"""Points of metrics as text: JSON columns, CSV lines."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator
from typing import Any

from runyard.core.metrics import NO_STEP, Series, all_finite
from runyard.engine.views import iso

CSV_HEADER = ("group", "name", "learner", "attempt", "step", "time", "value")
_ROWS = 10_000


def number(value: float) -> float | str:
    """A value for JSON, which has no word for what is not finite: ``NaN``, ``Infinity`` and ``-Infinity`` are texts."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def columns(series: Series) -> dict[str, Any]:
    """The columns of a series for JSON: ``steps`` (null for none), ``times_ms`` and ``values``."""
    steps, values = series.steps, series.values
    return {
        "group": series.group,
        "name": series.name,
        "learner": series.learner,
        "steps": [None if step == NO_STEP else step for step in steps] if NO_STEP in steps else steps.tolist(),
        "times_ms": series.times.tolist(),
        "values": values.tolist() if all_finite(values) else [number(value) for value in values],
    }


def csv_lines(pieces: Iterable[Series]) -> Iterator[bytes]:
    """A heading and a line for each point (RFC 4180), some thousand at a time."""
    yield _lines([CSV_HEADER])
    for series in pieces:
        for begin in range(0, len(series), _ROWS):
            yield _lines(_rows(series, begin, min(len(series), begin + _ROWS)))


def _rows(series: Series, begin: int, end: int) -> Iterator[tuple[object, ...]]:
    head = (series.group, series.name, series.learner, series.attempt)
    for at in range(begin, end):
        step = series.steps[at]
        yield *head, "" if step == NO_STEP else step, iso(series.times[at]), number(series.values[at])


def _lines(rows: Iterable[tuple[object, ...]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
