"""What accounts are due, have used and may spend; which machines are drained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from runyard.adapters.sql.accounts import put
from runyard.adapters.sql.database import Database, Transaction
from runyard.adapters.sql.schema import budgets
from runyard.core.budget import MS_PER_DAY, Budget, Period, Spent, begin_of, spread
from runyard.core.metering import LedgerEntry
from runyard.core.use import Held, Use, folded
from runyard.ports.shares import AccountShare

_SPEND: Final = (
    "INSERT INTO daily_use (account_id, day, gpu_ms, cost) VALUES (:account, :day, :gpu_ms, :cost) "
    "ON CONFLICT (account_id, day) DO UPDATE SET gpu_ms = daily_use.gpu_ms + excluded.gpu_ms, "
    "cost = daily_use.cost + excluded.cost"
)
_SPENT: Final = (
    "SELECT coalesce(sum(gpu_ms), 0), coalesce(sum(cost), 0) FROM daily_use WHERE account_id = :account AND day >= :day"
)
_ADD_SHARE: Final = (
    "INSERT INTO account_shares (account_id, used, used_at_ms) VALUES (:account, 0.0, 0) ON CONFLICT DO NOTHING"
)
_FOLD: Final = "UPDATE account_shares SET used = :used, used_at_ms = :at WHERE account_id = :account"


class ShareTables:
    """The parts that accounts have in the queue."""

    _db: Database

    def shares(self, now_ms: int) -> Mapping[str, AccountShare]:
        with self._db.read() as tx:
            parts = {
                account: AccountShare(weight, window, Use(used, at))
                for account, weight, window, used, at in tx.rows(
                    "SELECT account_id, weight, start_window, used, used_at_ms FROM account_shares"
                )
            }
            limits = tx.rows("SELECT account_id, period, gpu_ms, cost, warn_percent FROM budgets")
            for account, period, gpu_ms, cost, warn in limits:
                part = parts.get(account, AccountShare())
                budget = Budget(Period(period), gpu_ms, cost, warn)
                day = begin_of(budget.period, now_ms) // MS_PER_DAY
                spent = tx.row(_SPENT, account=account, day=day) or (0, 0)
                parts[account] = AccountShare(part.weight, part.window, part.use, budget, Spent(*map(int, spent)))
        return parts

    def set_weight(self, account_id: str, weight: float | None) -> bool:
        return self._set(account_id, "weight", weight)

    def set_window(self, account_id: str, window: str | None) -> bool:
        return self._set(account_id, "start_window", window)

    def _set(self, account_id: str, column: str, value: float | str | None) -> bool:
        with self._db.write() as tx:
            if not _is_account(tx, account_id):
                return False
            tx.change(_ADD_SHARE, account=account_id)
            tx.change(
                f"UPDATE account_shares SET {column} = :value WHERE account_id = :account",
                value=value,
                account=account_id,
            )
            return True

    def set_budget(self, account_id: str, budget: Budget | None) -> bool:
        with self._db.write() as tx:
            if not _is_account(tx, account_id):
                return False
            if budget is None:
                tx.change("DELETE FROM budgets WHERE account_id = :account", account=account_id)
                return True
            values = {"period": budget.period.value, "gpu_ms": budget.gpu_ms, "cost": budget.cost}
            put(tx, budgets, {"account_id": account_id}, values | {"warn_percent": budget.warn_percent})
            return True

    def set_draining(self, node_id: str, since_ms: int | None) -> bool:
        with self._db.write() as tx:
            if tx.row("SELECT 1 FROM nodes WHERE id = :node", node=node_id) is None:
                return False
            if since_ms is None:
                tx.change("DELETE FROM node_drains WHERE node_id = :node", node=node_id)
            else:
                tx.change(
                    "INSERT INTO node_drains (node_id, since_ms) VALUES (:node, :since) ON CONFLICT DO NOTHING",
                    node=node_id,
                    since=since_ms,
                )
            return True


def _is_account(tx: Transaction, account_id: str) -> bool:
    return tx.row("SELECT 1 FROM accounts WHERE id = :account", account=account_id) is not None


def spend(tx: Transaction, entries: Sequence[LedgerEntry]) -> None:
    """Add new ledger entries to the days of their accounts."""
    days: defaultdict[tuple[str, int], Spent] = defaultdict(Spent)
    for entry in entries:
        for day, spent in spread(entry):
            days[entry.account_id, day] += spent
    rows = [
        {"account": account, "day": day, "gpu_ms": spent.gpu_ms, "cost": spent.cost}
        for (account, day), spent in sorted(days.items())
    ]
    tx.change_each(_SPEND, rows)


def fold_use(tx: Transaction, held: Sequence[Held], half_life_ms: int) -> None:
    """Fold what was held into the use of the accounts."""
    by_account: defaultdict[str, list[Held]] = defaultdict(list)
    for each in held:
        by_account[each.account_id].append(each)
    for account, theirs in by_account.items():
        tx.change(_ADD_SHARE, account=account)
        row = tx.row("SELECT used, used_at_ms FROM account_shares WHERE account_id = :account", account=account)
        use = Use(*row) if row is not None else Use()
        for each in theirs:
            use = folded(use, each, half_life_ms)
        tx.change(_FOLD, used=use.value, at=use.at_ms, account=account)
