"""A resolution pyramid of a series: cells of 64 points, cells of 16 such cells, and so on up to one.

A cell tells the lowest and the highest finite value of its points (the first of equal ones; where none is finite both
are its first point) with their steps, times and places, and between which steps its points lie. So a chart of millions
of points reads some thousand cells; every point that is drawn is one that was measured.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from runyard.core.metrics import Series, all_finite

CELL: Final = 64
"""Points of a cell of the first level."""
FAN: Final = 16
"""Cells of one level that are one of the next."""


class Cell(NamedTuple):
    """One cell: two of its points, their places in the series, and between which steps all its points lie."""

    low_step: int
    low_time: int
    low: float
    high_step: int
    high_time: int
    high: float
    low_at: int
    high_at: int
    step_min: int
    step_max: int


def cell_of(series: Series, begin: int, end: int) -> Cell:
    """The cell of the points from ``begin`` to before ``end``, at least one."""
    values, steps, times = series.values[begin:end].tolist(), series.steps[begin:end].tolist(), series.times
    if all_finite(values):
        low, high = min(values), max(values)
        low_at, high_at = values.index(low), values.index(high)
    else:
        finite = [value for value in values if math.isfinite(value)]
        low_at = values.index(min(finite)) if finite else 0
        high_at = values.index(max(finite)) if finite else 0
        low, high = values[low_at], values[high_at]
    return Cell(
        steps[low_at],
        times[begin + low_at],
        low,
        steps[high_at],
        times[begin + high_at],
        high,
        begin + low_at,
        begin + high_at,
        min(steps),
        max(steps),
    )


def merged(cells: Sequence[Cell]) -> Cell:
    """The cell of all points of some cells."""
    low = high = next((cell for cell in cells if math.isfinite(cell.low)), cells[0])
    step_min, step_max = cells[0].step_min, cells[0].step_max
    for cell in cells:
        # Comparisons with NaN are false; an infinity stands only in a cell that has nothing finite.
        if cell.low < low.low and math.isfinite(cell.low):
            low = cell
        if cell.high > high.high and math.isfinite(cell.high):
            high = cell
        if cell.step_min < step_min:
            step_min = cell.step_min
        if cell.step_max > step_max:
            step_max = cell.step_max
    return Cell(*low[:3], *high[3:6], low.low_at, high.high_at, step_min, step_max)


def levels_of(series: Series) -> list[list[Cell]]:
    """All levels of a series of one point or more, the finest first; the last has one cell."""
    count = len(series)
    level = [cell_of(series, begin, min(begin + CELL, count)) for begin in range(0, count, CELL)]
    levels = [level]
    while len(level) > 1:
        level = [merged(level[begin : begin + FAN]) for begin in range(0, len(level), FAN)]
        levels.append(level)
    return levels


def level_sizes(count: int) -> Iterator[int]:
    """How many cells each level of so many points has."""
    size = -(-count // CELL)
    yield size
    while size > 1:
        size = -(-size // FAN)
        yield size


def level_for(count: int, stretches: int) -> int | None:
    """The coarsest level that has ``stretches`` cells of so many points or more; None: the points themselves."""
    size, level = CELL, None
    while size * max(1, stretches) <= count:
        level = 0 if level is None else level + 1
        size *= FAN
    return level


def points_of(level: int) -> int:
    """How many points a cell of a level has, the last of its level apart."""
    return CELL * FAN**level


def put_cell(series: Series, places: array[int], cell: Cell, shift: int) -> None:
    """Add the one or two points of a cell to a series that is drawn; ``shift``: what their places there are more."""
    low = (cell.low_at, cell.low_step, cell.low_time, cell.low)
    high = (cell.high_at, cell.high_step, cell.high_time, cell.high)
    pair = (low,) if cell.low_at == cell.high_at else (low, high) if cell.low_at < cell.high_at else (high, low)
    for at, step, time, value in pair:
        places.append(at + shift)
        series.steps.append(step)
        series.times.append(time)
        series.values.append(value)
