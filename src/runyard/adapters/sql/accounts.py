"""Accounts, their plans and quotas."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from runyard.adapters.sql.codec import from_json, to_json
from runyard.adapters.sql.connections import put
from runyard.adapters.sql.database import Database, Transaction
from runyard.adapters.sql.schema import accounts, plans, settings
from runyard.core.account import BUILT_IN, FREE, Account, AccountPlan, OwnQuota, Quota, effective, refuse_waiting
from runyard.core.errors import Conflict, NotFound

QUEUE_PAUSED: Final = "queue_paused"
_BUILT_IN: Final = {plan.name: plan for plan in BUILT_IN}
_HELD: Final = ("waiting", "starting", "running", "stopping", "storing")
_ACCOUNT: Final = (
    "SELECT a.id, a.name, a.paused, a.plan, a.own_quota, p.quota FROM accounts a LEFT JOIN plans p ON p.name = a.plan "
    "WHERE a.closed_ms IS NULL"
)


class AccountTables:
    """Who pays, and what for at the most."""

    _db: Database

    def ensure_account(self, account: Account) -> Account:
        there = self.account(account.id)
        if there is not None:
            return there
        with self._db.write() as tx:
            there = _account(tx, account.id)
            if there is None:
                _insert(tx, account)
                there = _account(tx, account.id)
            assert there is not None
            return there

    def add_account(self, account: Account) -> None:
        with self._db.write() as tx:
            if tx.row("SELECT 1 FROM accounts WHERE id = :id", id=account.id) is not None:
                raise Conflict(f"The name {account.id!r} is or was in use: choose another one.")
            _insert(tx, account)

    def account(self, account_id: str) -> Account | None:
        with self._db.read() as tx:
            return _account(tx, account_id)

    def accounts(self) -> Sequence[Account]:
        with self._db.read() as tx:
            return [_made(row) for row in tx.rows(f"{_ACCOUNT} ORDER BY a.id")]

    def change_account(self, account_id: str, *, name: str | None = None, plan: str | None = None) -> bool:
        with self._db.write() as tx:
            if _account(tx, account_id) is None:
                return False
            if plan is not None:
                _insist_on_plan(tx, plan)
                tx.change("UPDATE accounts SET plan = :plan WHERE id = :id", plan=plan, id=account_id)
            if name is not None:
                tx.change("UPDATE accounts SET name = :name WHERE id = :id", name=name, id=account_id)
            return True

    def close_account(self, account_id: str, now_ms: int) -> bool:
        with self._db.write() as tx:
            if _account(tx, account_id) is None:
                return False
            live = tx.value(
                "SELECT sum(runs) FROM state_counts WHERE account_id = :id AND state IN "
                f"({', '.join(repr(state) for state in _HELD)})",
                id=account_id,
            )
            if live:
                raise Conflict(f"{account_id} has {live} runs that are not final: cancel them and wait for their end.")
            tx.change("UPDATE accounts SET closed_ms = :now WHERE id = :id", now=now_ms, id=account_id)
            tx.change(
                "UPDATE tokens SET revoked_ms = :now WHERE account_id = :id AND revoked_ms IS NULL",
                now=now_ms,
                id=account_id,
            )
            tx.change("UPDATE members SET password = NULL WHERE account_id = :id", id=account_id)
            for table in ("connections", "secrets"):
                tx.change(f"DELETE FROM {table} WHERE account_id = :id", id=account_id)
            return True

    def set_own_quota(self, account_id: str, own: OwnQuota, dropped: Collection[str] = ()) -> bool:
        with self._db.write() as tx:
            there = _account(tx, account_id)
            if there is None:
                return False
            kept = {key: value for key, value in there.own.items() if key not in dropped} | dict(own)
            effective(Quota(), kept)  # no key that it does not know
            tx.change("UPDATE accounts SET own_quota = :own WHERE id = :id", own=to_json(kept), id=account_id)
            return True

    def quota_of(self, account_id: str) -> Quota:
        with self._db.read() as tx:
            return quota_of(tx, account_id) or Quota()

    def quotas(self) -> Mapping[str, Quota]:
        with self._db.read() as tx:
            return {row[0]: _quota(row) for row in tx.rows(_ACCOUNT)}

    def plans(self) -> Sequence[AccountPlan]:
        with self._db.read() as tx:
            rows = tx.rows("SELECT name, quota, weight FROM plans")
        found = _BUILT_IN | {name: AccountPlan(name, from_json(quota, Quota), weight) for name, quota, weight in rows}
        return [found[name] for name in sorted(found)]

    def put_plan(self, plan: AccountPlan) -> None:
        with self._db.write() as tx:
            put(tx, plans, {"name": plan.name}, {"quota": to_json(plan.quota), "weight": plan.weight})

    def delete_plan(self, name: str) -> bool:
        with self._db.write() as tx:
            used = tx.value("SELECT count(*) FROM accounts WHERE plan = :name AND closed_ms IS NULL", name=name)
            if used and name not in _BUILT_IN:
                raise Conflict(f"{used} accounts are on the plan {name!r}: give them another one first.")
            return tx.change("DELETE FROM plans WHERE name = :name", name=name) == 1

    def set_paused(self, account_id: str | None, paused: bool) -> bool:
        with self._db.write() as tx:
            if account_id is None:
                put(tx, settings, {"name": QUEUE_PAUSED}, {"value": "1" if paused else "0"})
                return True
            mine = sa.and_(accounts.c.id == account_id, accounts.c.closed_ms.is_(None))
            return tx.connection.execute(accounts.update().where(mine).values(paused=paused)).rowcount == 1

    def queue_paused(self) -> bool:
        with self._db.read() as tx:
            return tx.value("SELECT value FROM settings WHERE name = :name", name=QUEUE_PAUSED) == "1"


def quota_of(tx: Transaction, account_id: str) -> Quota | None:
    """An account's quota; None when there is no such account."""
    row = tx.row(f"{_ACCOUNT} AND a.id = :id", id=account_id)
    return None if row is None else _quota(row)


def insist_on_room(tx: Transaction, account_id: str, count: int) -> None:
    """That an account is there and may have so many more runs waiting. Raises ``NotFound`` or ``Refused``."""
    quota = quota_of(tx, account_id)
    if quota is None:
        raise NotFound(f"There is no account {account_id!r}: create it first.")
    if quota.waiting is None:
        return
    there = tx.value("SELECT runs FROM state_counts WHERE account_id = :id AND state = 'waiting'", id=account_id)
    refuse_waiting(int(there or 0), count, quota.waiting)


def _insert(tx: Transaction, account: Account) -> None:
    _insist_on_plan(tx, account.plan)
    own = dict(account.own) | ({} if account.quota_gpus is None else {"gpus": account.quota_gpus})
    row = {"id": account.id, "name": account.name, "paused": account.paused, "plan": account.plan}
    tx.connection.execute(accounts.insert(), row | {"own_quota": to_json(own)})


def _insist_on_plan(tx: Transaction, name: str) -> None:
    if name not in _BUILT_IN and tx.row("SELECT 1 FROM plans WHERE name = :name", name=name) is None:
        raise NotFound(f"There is no plan {name!r}: `runyard plans list` shows those that there are.")


def _account(tx: Transaction, account_id: str) -> Account | None:
    row = tx.row(f"{_ACCOUNT} AND a.id = :id", id=account_id)
    return None if row is None else _made(row)


def _made(row: Sequence[Any]) -> Account:
    return Account(row[0], row[1], _quota(row).gpus, bool(row[2]), row[3], json.loads(row[4]))


def _quota(row: Sequence[Any]) -> Quota:
    """A plan that is not there (the database was changed by hand then) limits like the free one."""
    changed = from_json(row[5], Quota) if row[5] is not None else None
    return effective(changed or _BUILT_IN.get(row[3], FREE).quota, json.loads(row[4]))
