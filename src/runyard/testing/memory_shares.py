"""What accounts are due, have used and may spend, of the store in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from runyard.core.budget import MS_PER_DAY, Budget, Spent, begin_of, spread
from runyard.core.metering import LedgerEntry
from runyard.core.scheduling.snapshot import HALF_LIFE_MS
from runyard.core.use import Held, folded
from runyard.ports.shares import AccountShare
from runyard.testing.memory_accounts import MemoryAccounts


class MemoryShares(MemoryAccounts):
    """The parts that accounts have in the queue."""

    half_life_ms = HALF_LIFE_MS

    def __init__(self) -> None:
        super().__init__()
        self._shares: defaultdict[str, AccountShare] = defaultdict(AccountShare)
        self._days: defaultdict[tuple[str, int], Spent] = defaultdict(Spent)

    def shares(self, now_ms: int) -> Mapping[str, AccountShare]:
        with self._lock:
            return {
                account: replace(part, spent=self._spent(account, part, now_ms))
                for account, part in self._shares.items()
            }

    def _spent(self, account_id: str, part: AccountShare, now_ms: int) -> Spent:
        if part.budget is None:
            return Spent()
        first = begin_of(part.budget.period, now_ms) // MS_PER_DAY
        days = (spent for (account, day), spent in self._days.items() if account == account_id and day >= first)
        return sum(days, Spent())

    def _set(self, account_id: str, **changes: object) -> bool:
        with self._lock:
            if account_id not in self._accounts:
                return False
            self._shares[account_id] = replace(self._shares[account_id], **changes)  # pyright: ignore[reportArgumentType]  # replace() checks the names itself
            return True

    def set_weight(self, account_id: str, weight: float | None) -> bool:
        return self._set(account_id, weight=weight)

    def set_window(self, account_id: str, window: str | None) -> bool:
        return self._set(account_id, window=window)

    def set_budget(self, account_id: str, budget: Budget | None) -> bool:
        return self._set(account_id, budget=budget)

    def _spend(self, entry: LedgerEntry) -> None:
        for day, spent in spread(entry):
            self._days[entry.account_id, day] += spent

    def _fold_use(self, held: Iterable[Held]) -> None:
        for each in held:
            part = self._shares[each.account_id]
            self._shares[each.account_id] = replace(part, use=folded(part.use, each, self.half_life_ms))
