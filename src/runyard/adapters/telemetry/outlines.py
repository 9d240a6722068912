"""What charts need of a stream of points: cells of its index where there are many points, points where there are few.

Only cells that lie in the window of steps are taken as they are; where one lies across its edge, its points are read.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from runyard.adapters.telemetry.blocks import BlockReader, read_blocks
from runyard.adapters.telemetry.index import Columns, Part, Segment, segments
from runyard.core.metrics import Outline, Series, Window, empty_series
from runyard.core.pyramid import Cell, cell_of, level_for, points_of, put_cell
from runyard.ports.metrics import MetricKey, Wanted

_ALL: Final = 1 << 62
_TOP: Final = 99
"""A level above all that there are: the topmost is read."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn of which stream: descriptors of the stream and of its index (None: it has none yet)."""

    stream: int
    index: int | None
    key: MetricKey
    wanted: Wanted
    window: Window
    stretches: int


@dataclass(slots=True)
class _Plan:
    """One series: its parts of the segments (by their numbers) that may have points in the window, what follows the
    last segment, and how many points in the window that is at least."""

    parts: dict[int, Part] = field(default_factory=dict[int, Part])
    rest: Series | None = None
    count: int = 0


def drawn(drawing: Drawing) -> list[Outline]:
    """The outline of each series that has points in the window."""
    size = os.fstat(drawing.stream).st_size
    known = [] if drawing.index is None else list(segments(drawing.index, size))
    regions = _Regions(drawing, known)
    drawers = [_Drawer(drawing, regions, *name, plan) for name, plan in _plans(drawing, known).items()]
    for number in range(len(known)):
        for drawer in drawers:
            drawer.segment(number)
    return [outline for drawer in drawers if (outline := drawer.outline()).total]


def _plans(drawing: Drawing, known: Sequence[Segment]) -> dict[tuple[str, str], _Plan]:
    plans: dict[tuple[str, str], _Plan] = {}
    wanted, window = drawing.wanted, drawing.window
    for number, segment in enumerate(known):
        for part in segment.parts:
            if wanted.name in (None, part.name) and wanted.group in (None, part.group):
                plan = plans.setdefault((part.group, part.name), _Plan())
                inside = window.open or _holds(window, _cells(drawing, part, _TOP)[0])
                if inside is not False:
                    plan.parts[number] = part
                    plan.count += part.count if inside else _surely_inside(drawing, part)
    reader = BlockReader(drawing.key, wanted)
    read_blocks(drawing.stream, reader, known[-1].end if known else 0, _ALL)
    for series in reader.series():
        plan = plans.setdefault((series.group, series.name), _Plan())
        plan.rest = window.cut(series)
        plan.count += len(plan.rest)
    return plans


def _holds(window: Window, cell: Cell) -> bool | None:
    return window.holds(cell.step_min, cell.step_max)


def _cells(drawing: Drawing, part: Part, level: int) -> list[Cell]:
    assert drawing.index is not None
    return part.level(drawing.index, level)


def _surely_inside(drawing: Drawing, part: Part) -> int:
    """How many points of a part that lies across the window's edge are in whole cells inside it."""
    cells = _cells(drawing, part, 0)
    last = part.count - (len(cells) - 1) * points_of(0)
    sizes = (points_of(0) if number < len(cells) - 1 else last for number in range(len(cells)))
    return sum(size for cell, size in zip(cells, sizes, strict=True) if _holds(drawing.window, cell))


class _Regions:
    """The columns of one segment after the other: those of the last that was asked for are kept."""

    def __init__(self, drawing: Drawing, known: Sequence[Segment]) -> None:
        self._drawing = drawing
        self._known = known
        self._number = -1
        self._columns: Columns | None = None

    def read(self, number: int, part: Part, begin: int, end: int) -> Series:
        """The points in the window of a part of a segment from one place to before another."""
        drawing = self._drawing
        if self._columns is None or self._number != number:
            assert drawing.index is not None
            self._number, self._columns = number, Columns(drawing.stream, drawing.index, self._known[number])
        series = empty_series(part.group, part.name, drawing.key.learner, drawing.key.attempt)
        self._columns.put(series, part, begin, end)
        return drawing.window.cut(series)


class _Drawer:
    """Puts the outline of one series together."""

    def __init__(self, drawing: Drawing, regions: _Regions, group: str, name: str, plan: _Plan) -> None:
        self._drawing = drawing
        self._regions = regions
        self._plan = plan
        self._level = level_for(plan.count, drawing.stretches)
        self._series = empty_series(group, name, drawing.key.learner, drawing.key.attempt)
        self._places: array[int] = array("q")
        self._total = 0

    def segment(self, number: int) -> None:
        """Add what a segment has."""
        part = self._plan.parts.get(number)
        if part is None:
            return
        if self._level is None:
            self._points(self._regions.read(number, part, 0, part.count))
            return
        for cell, begin, end in self._cells(part, self._level):
            inside = _holds(self._drawing.window, cell)
            if inside is None or (inside and self._total == 0):  # the first point of all is always drawn
                self._points(self._regions.read(number, part, begin, end))
            elif inside:
                put_cell(self._series, self._places, cell, self._total - begin)
                self._total += end - begin

    def _cells(self, part: Part, level: int) -> Iterator[tuple[Cell, int, int]]:
        """The cells of a level, with the places between which their points lie."""
        cells = _cells(self._drawing, part, level)
        size = points_of(level) if len(cells) > 1 else part.count
        for number, cell in enumerate(cells):
            yield cell, number * size, min(part.count, (number + 1) * size)

    def _points(self, series: Series) -> None:
        """Add points: all of them, or cells of them and the first."""
        count = len(series)
        if self._level is None:
            self._put(series, range(count))
        elif count:
            if self._total == 0:
                self._put(series, range(1))
            size = points_of(self._level)
            for begin in range(0, count, size):
                put_cell(self._series, self._places, cell_of(series, begin, min(count, begin + size)), self._total)
        self._total += count

    def _put(self, series: Series, places: range) -> None:
        for column, more in (
            (self._series.steps, series.steps),
            (self._series.times, series.times),
            (self._series.values, series.values),
        ):
            column.extend(more[places.start : places.stop])  # pyright: ignore[reportArgumentType]  # column by column
        self._places.extend(self._total + place for place in places)

    def outline(self) -> Outline:
        """The outline, when all segments are added."""
        rest = self._plan.rest
        if rest is not None:
            self._points(rest)
        if self._total and self._places[-1] != self._total - 1:
            last = rest if rest else self._last()
            self._total -= 1
            self._put(last.taken([len(last) - 1]), range(1))
            self._total += 1
        self._unite()
        return Outline(self._series, self._places, self._total)

    def _last(self) -> Series:
        """A series that ends with the last point in the window."""
        for number, part in reversed(self._plan.parts.items()):
            for cell, begin, end in reversed(list(self._cells(part, self._level or 0))):
                if _holds(self._drawing.window, cell) is not False:
                    found = self._regions.read(number, part, begin, end)
                    if len(found):
                        return found
        raise AssertionError("there are points, so there is a last one")

    def _unite(self) -> None:
        """Leave out what was put twice: the first point, where it is the lowest or highest of its cell, too."""
        places = self._places
        if len(places) > 1 and places[0] == places[1]:
            for column in (places, self._series.steps, self._series.times, self._series.values):
                del column[1]
