"""Points thinned out, and the metrics that tell most."""

import math
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard.core.metrics import (
    NO_STEP,
    Series,
    Window,
    all_finite,
    label,
    lower_is_better,
    most_telling,
    thinned,
)


def a_series(values: list[float], steps: list[int] | None = None) -> Series:
    count = len(values)
    return Series("g", "n", array("q", steps or range(count)), array("q", range(count)), array("d", values))


@given(st.lists(st.floats(width=32), max_size=300), st.integers(2, 60))
def test_a_thinned_series_is_part_of_the_whole_and_keeps_its_ends_and_extremes(values: list[float], most: int) -> None:
    whole = a_series(values)
    thin = thinned(whole, most)
    assert len(thin) <= most or len(whole) <= most
    assert list(thin.steps) == sorted(set(thin.steps))
    assert all(repr(values[step]) == repr(value) for step, value in zip(thin.steps, thin.values, strict=True))
    if values:
        assert (thin.steps[0], thin.steps[-1]) == (0, len(values) - 1)
    finite = [value for value in values if math.isfinite(value)]
    if finite and most >= 4:
        kept = [value for value in thin.values if math.isfinite(value)]
        assert (min(kept), max(kept)) == (min(finite), max(finite))


def test_points_after_a_step() -> None:
    series = a_series([1.0, 2.0, 3.0, 4.0], [5, NO_STEP, 7, 6])
    assert list(Window(after=5).cut(series).values) == [3.0, 4.0]
    assert list(Window(after=-(2**62)).cut(series).values) == [1.0, 3.0, 4.0]


def test_finite_values_are_told_though_their_sum_is_not() -> None:
    assert all_finite([1.7e308, 1.7e308])
    assert not all_finite([1.0, math.nan])
    assert not all_finite([math.inf, -math.inf])
    assert all_finite([])


@pytest.mark.parametrize(
    "name", ["loss", "val_loss", "Loss/train", "error_rate", "rmse", "val/wer", "perplexity", "MAE"]
)
def test_what_is_to_become_small(name: str) -> None:
    assert lower_is_better(name)


@pytest.mark.parametrize("name", ["accuracy", "f1", "answer", "reward", "klondike", "costume"])
def test_what_is_to_become_large(name: str) -> None:
    assert not lower_is_better(name)


def test_quality_on_data_held_back_tells_most() -> None:
    names = [
        ("", "epoch"),
        ("train", "loss"),
        ("train", "accuracy"),
        ("", "foo"),
        ("val", "loss"),
        ("test", "accuracy"),
    ]
    ranked = most_telling(names, 9)
    assert ranked == [
        ("test", "accuracy"), ("val", "loss"), ("train", "accuracy"), ("train", "loss"), ("", "foo"), ("", "epoch"),
    ]  # fmt: skip
    assert most_telling(names, 2) == ranked[:2]
    assert [label(*each) for each in ranked[3:5]] == ["train/loss", "foo"]
