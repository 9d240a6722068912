"""Decayed use: a fold that gives the integral, whatever the order and however it is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard.core.resources import Resources
from runyard.core.use import Held, Use, amount, decayed, folded, rate_of

HALF = 1_000_000


def held(from_ms: int, to_ms: int, rate: float = 1.0) -> Held:
    return Held("r", 1, "acme", rate, from_ms, to_ms)


def test_what_was_used_a_half_life_ago_counts_half() -> None:
    use = Use(800.0, 50)
    assert decayed(use, 50 + HALF, HALF) == pytest.approx(400)
    assert decayed(use, 50 + 3 * HALF, HALF) == pytest.approx(100)
    assert decayed(use, 0, HALF) == 800


def test_a_short_holding_counts_as_what_it_was_and_a_long_one_less() -> None:
    assert amount(2.0, 0, 10, HALF) == pytest.approx(20, rel=1e-4)
    assert amount(1.0, 0, 10**12, HALF) == pytest.approx(HALF / 0.6931471805599453)
    assert amount(1.0, 10, 5, HALF) == 0


@given(st.lists(st.integers(0, 10 * HALF), min_size=2, max_size=8).map(sorted), st.floats(0.1, 8))
def test_a_holding_may_be_cut_anywhere(cuts: list[int], rate: float) -> None:
    whole = amount(rate, cuts[0], cuts[-1], HALF)
    use = Use()
    for begin, end in pairwise(cuts):
        use = folded(use, held(begin, end, rate), HALF)
    assert decayed(use, cuts[-1], HALF) == pytest.approx(whole, abs=1e-6)


@given(st.lists(st.tuples(st.integers(0, 5 * HALF), st.integers(0, HALF)), min_size=1, max_size=6), st.data())
def test_the_order_in_which_attempts_end_does_not_matter(spans: list[tuple[int, int]], data: st.DataObject) -> None:
    ended = [held(begin, begin + length) for begin, length in spans]
    shuffled = data.draw(st.permutations(ended))
    one, other = Use(), Use()
    for each in ended:
        one = folded(one, each, HALF)
    for each in shuffled:
        other = folded(other, each, HALF)
    assert one.at_ms == other.at_ms
    assert one.value == pytest.approx(other.value)


@pytest.mark.parametrize(
    ("resources", "machine", "rate"),
    [
        (Resources(2, 500, 16), Resources(4, 8000, 1024), 2.0),
        (Resources(0, 4000, 16), Resources(4, 8000, 1024), 2.0),
        (Resources(0, 1000, 512), Resources(4, 8000, 1024), 2.0),
        (Resources(0, 4000, 16), Resources(0, 8000, 1024), 0.5),
        (Resources(0, 16000, 16), Resources(1, 8000, 1024), 1.0),
        (Resources(0, 16000, 16), Resources(), 0.0),
    ],
)
def test_what_a_run_counts_as(resources: Resources, machine: Resources, rate: float) -> None:
    assert rate_of(resources, machine) == rate
