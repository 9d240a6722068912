"""Budgets: periods, warnings, the stop, and ledger entries spread over days."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard.core.budget import MS_PER_DAY, Budget, Period, Spent, begin_of, end_of, judge, spread
from runyard.core.metering import MS_PER_HOUR, LedgerEntry

MOMENTS = st.integers(0, 4_000_000_000_000)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("period", "now", "begin", "end"),
    [
        (Period.week, "2026-11-23T02:21:16", "2026-11-23", "2026-11-30"),  # a Monday
        (Period.week, "2026-11-29T23:59:59.999", "2026-11-23", "2026-11-30"),
        (Period.week, "2027-01-01", "2026-12-28", "2027-01-04"),
        (Period.month, "2026-11-23T02:21:16", "2026-11-01", "2026-12-01"),
        (Period.month, "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
        (Period.month, "2028-02-29", "2028-02-01", "2028-03-01"),
        (Period.month, "2026-01-31T12:00:00", "2026-01-01", "2026-02-01"),
    ],
)
def test_periods(period: Period, now: str, begin: str, end: str) -> None:
    assert (begin_of(period, at(now)), end_of(period, at(now))) == (at(begin), at(end))


@given(st.sampled_from(Period), MOMENTS)
def test_every_moment_is_in_its_period_and_periods_follow_each_other(period: Period, now: int) -> None:
    begin, end = begin_of(period, now), end_of(period, now)
    assert begin <= now < end
    assert (begin_of(period, begin), begin_of(period, end - 1), begin_of(period, end)) == (begin, begin, end)
    days = (end - begin) // MS_PER_DAY
    assert days == 7 if period is Period.week else 28 <= days <= 31


NOW = at("2026-11-25T12:00:00")
TEN_HOURS = Budget(Period.week, gpu_ms=10 * MS_PER_HOUR)


def test_what_a_budget_says_on_its_way() -> None:
    calm = judge(TEN_HOURS, Spent(gpu_ms=8 * MS_PER_HOUR - 1), NOW)
    assert (calm.percent, calm.warning, calm.stopped) == (79, None, None)
    warned = judge(TEN_HOURS, Spent(gpu_ms=8 * MS_PER_HOUR), NOW)
    assert warned.warning == (
        "80 % of the account's budget for this week is used (8 of 10 GPU-hours); "
        "it begins anew on 2026-11-30 00:00 UTC."
    )
    assert warned.stopped is None
    over = judge(TEN_HOURS, Spent(gpu_ms=10 * MS_PER_HOUR), NOW)
    assert over.warning is None
    assert over.stopped == (
        "The account's budget for this week is used up (10 of 10 GPU-hours): nothing new starts before "
        "2026-11-30 00:00 UTC, unless the budget is raised (`runyard quota set`)."
    )
    assert over.opens_ms == at("2026-11-30")


def test_the_limit_that_is_nearer_decides() -> None:
    both = Budget(Period.month, gpu_ms=10 * MS_PER_HOUR, cost=2_000_000, warn_percent=50)
    found = judge(both, Spent(MS_PER_HOUR, 1_500_000), NOW)
    assert found.percent == 75
    assert found.warning is not None
    assert "1.5 of 2 units of money" in found.warning
    stopped = judge(both, Spent(50 * MS_PER_HOUR, 1_999_999), NOW)
    assert stopped.stopped is not None
    assert "50 of 10 GPU-hours" in stopped.stopped


def test_a_budget_of_nothing_allows_nothing() -> None:
    assert judge(Budget(Period.week, gpu_ms=0), Spent(), NOW).stopped is not None


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**6), st.integers(0, 10**6))
def test_more_spent_never_says_less(limit: int, spent: int, more: int, money: int) -> None:
    budget = Budget(Period.week, limit, money)
    one, other = judge(budget, Spent(spent, 7), NOW), judge(budget, Spent(spent + more, 7 + more), NOW)
    assert one.percent <= other.percent or (one.stopped is None and other.stopped is not None)
    assert one.stopped is None or other.stopped is not None
    assert (one.stopped is not None) == (spent >= limit or money <= 7)


def entry(from_ms: int, to_ms: int, gpu_ms: int, cost: int, *, waste: bool = False) -> LedgerEntry:
    return LedgerEntry("r", 1, "acme", "mia", from_ms, to_ms, gpu_ms, 0, 0, cost, waste)


@given(MOMENTS, st.integers(0, 40 * MS_PER_DAY), st.integers(0, 8), st.integers(0, 10**9))
def test_what_is_spread_over_days_is_the_entry(from_ms: int, length: int, gpus: int, cost: int) -> None:
    days = list(spread(entry(from_ms, from_ms + length, gpus * length, cost)))
    assert sum((spent for _, spent in days), Spent()) == Spent(gpus * length, cost)
    assert [day for day, _ in days] == list(range(days[0][0], days[-1][0] + 1))
    assert days[0][0] == from_ms // MS_PER_DAY
    assert all(0 <= spent.gpu_ms <= gpus * MS_PER_DAY and spent.cost >= 0 for _, spent in days)


def test_each_day_gets_what_was_held_on_it() -> None:
    midnight = 20_000 * MS_PER_DAY
    found = list(spread(entry(midnight - 1000, midnight + 3000, 8000, 401)))
    assert found == [(19_999, Spent(2000, 100)), (20_000, Spent(6000, 301))]
    assert list(spread(entry(midnight, midnight + MS_PER_DAY, 1, 1))) == [(20_000, Spent(1, 1))]


def test_the_platforms_faults_spend_nothing() -> None:
    assert list(spread(entry(0, 1000, 1000, 5, waste=True))) == []
