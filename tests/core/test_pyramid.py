"""Cells of a series, against what the points themselves say."""

import math
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard.core.metrics import NO_STEP, Outline, Series, Window, extremes, joined, whole_outline
from runyard.core.pyramid import CELL, FAN, level_for, level_sizes, levels_of, points_of

VALUES = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf])


def a_series(values: list[float]) -> Series:
    steps = [NO_STEP if n % 7 == 3 else n * 5 % 101 for n in range(len(values))]
    return Series("", "loss", array("q", steps), array("q", range(len(values))), array("d", values))


@given(st.lists(VALUES, min_size=1, max_size=3 * CELL), st.integers(1, 9))
def test_every_cell_tells_of_the_extremes_of_its_points(values: list[float], times: int) -> None:
    series = a_series(values * times)
    levels = levels_of(series)
    assert [len(level) for level in levels] == list(level_sizes(len(series)))
    for number, level in enumerate(levels):
        size = points_of(number)
        for at, cell in enumerate(level):
            begin, end = at * size, min(len(series), (at + 1) * size)
            told = sorted({cell.low_at, cell.high_at})
            assert told == extremes(series.values, begin, end)
            for place, step, time, value in (
                (cell.low_at, cell.low_step, cell.low_time, cell.low),
                (cell.high_at, cell.high_step, cell.high_time, cell.high),
            ):
                assert (step, time) == (series.steps[place], series.times[place])
                assert repr(value) == repr(series.values[place])
            steps = series.steps[begin:end]
            assert (cell.step_min, cell.step_max) == (min(steps), max(steps))
    assert len(levels[-1]) == 1


@pytest.mark.parametrize(
    ("count", "stretches", "level"),
    [(10, 5, None), (CELL * 5 - 1, 5, None), (CELL * 5, 5, 0), (CELL * FAN * 5 - 1, 5, 0), (10_000_000, 499, 2)],
)
def test_the_level_of_a_chart_has_a_cell_for_each_stretch(count: int, stretches: int, level: int | None) -> None:
    assert level_for(count, stretches) == level
    assert level is None or -(-count // points_of(level)) >= stretches


def test_outlines_of_several_attempts_follow_each_other() -> None:
    first, second = a_series([1.0, 2.0, 3.0]), a_series([9.0, 0.0])
    both = whole_outline(first).followed_by(whole_outline(second))
    assert (list(both.places), both.total) == ([0, 1, 2, 3, 4], 5)
    assert both.series == joined(first, second)
    sparse = Outline(a_series([1.0, 7.0, 3.0]), array("q", [0, 500, 999]), 1000).followed_by(both)
    assert (list(sparse.places[2:5]), sparse.total) == ([999, 1000, 1001], 1005)
    assert list(sparse.thinned(4).values) == [1.0, 1.0, 9.0, 0.0]


@given(st.integers(-5, 5), st.integers(0, 4), st.integers(-6, 6) | st.none(), st.integers(-6, 6) | st.none())
def test_a_window_knows_what_lies_in_it(low: int, width: int, after: int | None, until: int | None) -> None:
    window = Window(after, until)
    steps = array("q", range(low, low + width + 1))
    kept = len(window.cut(Series("", "x", steps, array("q", steps), array("d", steps))))
    told = window.holds(low, low + width)
    assert told is None or kept == (width + 1 if told else 0)
    assert Window(after=-100).holds(NO_STEP, 3) is None
