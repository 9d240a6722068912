"""Budgets: what an account may spend in a week or a month, when it is warned, and when nothing new starts.

Weeks begin on Monday and months on the first, at 00:00 UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from runyard.core.metering import MS_PER_HOUR, LedgerEntry

MS_PER_DAY: Final = 86_400_000
WARN_PERCENT: Final = 80


class Period(StrEnum):
    """How often a budget begins anew."""

    week = "week"
    month = "month"


@dataclass(frozen=True, slots=True)
class Spent:
    """``gpu_ms``: milliseconds of GPUs; ``cost``: micro-units of money. What is the platform's fault is in neither."""

    gpu_ms: int = 0
    cost: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.gpu_ms + other.gpu_ms, self.cost + other.cost)


NOTHING: Final = Spent()


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent in each period: GPU time, money, or both (None: no limit of that kind). From
    ``warn_percent`` of either on people are warned."""

    period: Period
    gpu_ms: int | None = None
    cost: int | None = None
    warn_percent: int = WARN_PERCENT


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a budget says now. ``percent``: of the limit that is nearer, rounded down. ``stopped``: why nothing new
    starts, ``warning``: that this is near; None where it is not so. ``opens_ms``: when the next period begins."""

    percent: int
    opens_ms: int
    warning: str | None = None
    stopped: str | None = None


def begin_of(period: Period, now_ms: int) -> int:
    """When the current period began."""
    day = now_ms // MS_PER_DAY
    if period is Period.week:
        return (day - (day + 3) % 7) * MS_PER_DAY  # 1970-01-01 was a Thursday
    return (day - _date(now_ms).day + 1) * MS_PER_DAY


def end_of(period: Period, now_ms: int) -> int:
    """When the next period begins."""
    begin = begin_of(period, now_ms)
    if period is Period.week:
        return begin + 7 * MS_PER_DAY
    next_month = (_date(begin).replace(day=28) + timedelta(days=4)).replace(day=1)
    return int(next_month.timestamp() * 1000)


def judge(budget: Budget, spent: Spent, now_ms: int) -> Verdict:
    """Compare what was spent since the period began with what may be. At the limit, nothing new starts."""
    opens = end_of(budget.period, now_ms)
    kinds = [
        (100 * used // limit if limit else 100, used >= limit, text)
        for used, limit, text in (
            (spent.gpu_ms, budget.gpu_ms, _hours(spent.gpu_ms, budget.gpu_ms)),
            (spent.cost, budget.cost, _money(spent.cost, budget.cost)),
        )
        if limit is not None
    ]
    percent, over, text = max(kinds, key=lambda each: (each[1], each[0]), default=(0, False, ""))
    when = f"{_date(opens):%Y-%m-%d} 00:00 UTC"
    if over:
        sentence = (
            f"The account's budget for this {budget.period.value} is used up ({text}): "
            f"nothing new starts before {when}, unless the budget is raised (`runyard quota set`)."
        )
        return Verdict(percent, opens, stopped=sentence)
    if percent >= budget.warn_percent:
        warning = (
            f"{percent} % of the account's budget for this {budget.period.value} is used ({text}); "
            f"it begins anew on {when}."
        )
        return Verdict(percent, opens, warning)
    return Verdict(percent, opens)


def may_be_used_up(budget: Budget, spent: Spent, more: Spent) -> bool:
    """Whether a budget is used up once ``more`` has been spent, too."""
    both = spent + more
    return any(
        limit is not None and used >= limit for used, limit in ((both.gpu_ms, budget.gpu_ms), (both.cost, budget.cost))
    )


def spread(entry: LedgerEntry) -> Iterator[tuple[int, Spent]]:
    """What a ledger entry spends on each day (days since 1970-01-01, UTC); the sum is the entry's, to the unit."""
    if entry.waste:
        return
    length, given = max(1, entry.to_ms - entry.from_ms), Spent()
    last = max(entry.from_ms, entry.to_ms - 1) // MS_PER_DAY
    for day in range(entry.from_ms // MS_PER_DAY, last + 1):
        until = min(entry.to_ms, (day + 1) * MS_PER_DAY) - entry.from_ms
        if day == last:
            until = length
        so_far = Spent(entry.gpu_ms * until // length, entry.cost * until // length)
        yield day, Spent(so_far.gpu_ms - given.gpu_ms, so_far.cost - given.cost)
        given = so_far


def _date(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _hours(used: int, limit: int | None) -> str:
    return f"{used / MS_PER_HOUR:.4g} of {(limit or 0) / MS_PER_HOUR:g} GPU-hours"


def _money(used: int, limit: int | None) -> str:
    return f"{used / 1e6:.4g} of {(limit or 0) / 1e6:g} units of money"
