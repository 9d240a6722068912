"""Slot time to ledger, by exact arithmetic."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard.core.metering import MS_PER_HOUR, LedgerEntry, cost, settle
from runyard.core.reasons import RULES, Fault, Reason
from runyard.core.resources import Price, Resources
from runyard.core.run import Attempt, Ending, StateName
from tests.core.builders import T0, assign, new_run, went

HOUR, MILLION = MS_PER_HOUR, 1_000_000
PRICE = Price(gpu_hour=2 * MILLION, cpu_hour=40_000, gb_hour=5_000)


@pytest.mark.parametrize(
    ("resources", "duration_ms", "expected"),
    [
        pytest.param(Resources(1), HOUR, 2 * MILLION, id="a GPU hour"),
        pytest.param(Resources(0, 1_000), HOUR, 40_000, id="a CPU hour"),
        pytest.param(Resources(0, 0, 1_024), HOUR, 5_000, id="a GB hour"),
        pytest.param(Resources(2, 8_000, 24 * 1_024), HOUR, 4 * MILLION + 320_000 + 120_000, id="their sum"),
        pytest.param(Resources(1), HOUR // 2, MILLION, id="half an hour"),
        pytest.param(Resources(1), 1, 0, id="a millisecond of 0.55 micro-units is rounded down"),
        pytest.param(Resources(1), 2, 1, id="two milliseconds of 1.1"),
        pytest.param(Resources(0, 1), HOUR, 40, id="a milli-CPU"),
        pytest.param(Resources(0, 0, 1), HOUR, 4, id="a MiB: 4.88"),
        pytest.param(Resources(8, 1, 1), 0, 0, id="no time"),
        pytest.param(Resources(), HOUR, 0, id="nothing held"),
        pytest.param(Resources(1), 24 * 365 * HOUR, 17_520 * MILLION, id="a year"),
    ],
)
def test_cost(resources: Resources, duration_ms: int, expected: int) -> None:
    assert cost(resources, duration_ms, PRICE) == expected


amounts = st.builds(Resources, st.integers(0, 64), st.integers(0, 512_000), st.integers(0, 4_194_304))
prices = st.builds(Price, st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))


@given(amounts, st.integers(0, 10**11), prices)
def test_cost_is_exact_and_rounded_down_once(resources: Resources, duration_ms: int, price: Price) -> None:
    exact = Fraction(duration_ms, HOUR) * (
        resources.gpus * price.gpu_hour
        + Fraction(resources.cpu_millis, 1_000) * price.cpu_hour
        + Fraction(resources.memory_mib, 1_024) * price.gb_hour
    )
    assert cost(resources, duration_ms, price) == exact.numerator // exact.denominator


@given(amounts, st.integers(0, 10**9), st.integers(0, 10**9), prices)
def test_time_in_two_pieces_never_costs_more_than_in_one(r: Resources, first: int, second: int, price: Price) -> None:
    whole = cost(r, first + second, price)
    assert whole - 1 <= cost(r, first, price) + cost(r, second, price) <= whole


def closed(reason: Reason, held_ms: int = 90_000) -> Attempt:
    return Attempt(1, "n1", (2,), T0, T0 + 500, T0 + held_ms, Ending(StateName.failed, reason))


def test_the_entry_of_an_attempt() -> None:
    run = new_run(resources=Resources(2, 1_500, 1_536))
    assert settle(run, closed(Reason.nonzero_exit), PRICE) == LedgerEntry(
        run_id=run.id,
        attempt=1,
        account_id="acme",
        member_id="ada",
        from_ms=T0,
        to_ms=T0 + 90_000,
        gpu_ms=180_000,
        cpu_ms=135_000,
        gb_ms=135_000,
        cost=(90_000 * (4 * MILLION + 60_000 + 7_500)) // HOUR,
        waste=False,
    )


@pytest.mark.parametrize("reason", Reason)
def test_who_pays(reason: Reason) -> None:
    """The account, but for the platform's faults; what never held a slot has no entry at all."""
    entry = settle(new_run(), closed(reason), PRICE)
    assert (entry.cost == 0) == entry.waste == (not RULES[reason].billed)
    assert entry.gpu_ms == 90_000
    if RULES[reason].fault is Fault.platform and reason is not Reason.results_lost:
        assert entry.waste


def test_no_entry_while_the_slot_is_held() -> None:
    run = went(new_run(), assign())
    with pytest.raises(ValueError, match="training-000000001 still holds its slot"):
        settle(run, run.attempts[-1], PRICE)
    with pytest.raises(ValueError, match="attempt 1"):
        settle(run, replace(closed(Reason.finished), ending=None), PRICE)


def test_a_clock_that_stepped_back_bills_nothing() -> None:
    entry = settle(new_run(), closed(Reason.finished, held_ms=-5), PRICE)
    assert (entry.from_ms, entry.to_ms, entry.gpu_ms, entry.cost) == (T0, T0, 0, 0)
