"""Accounts, plans, connections and definitions of the store in memory."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from runyard.core.account import BUILT_IN, Account, AccountPlan, OwnQuota, Quota, effective
from runyard.core.errors import Conflict, NotFound
from runyard.ports.store import ConnectionRecord, Definition


class MemoryAccounts:
    """Who pays, and what they have stored."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self._accounts: dict[str, Account] = {}
        self._closed: set[str] = set()
        self._plans: dict[str, AccountPlan] = {}
        self._connections: dict[tuple[str, str], ConnectionRecord] = {}
        self._definitions: dict[tuple[str, str], Definition] = {}
        self._paused = False

    def ensure_account(self, account: Account) -> Account:
        with self._lock:
            if account.id not in self._accounts:
                self._open(account)
            found = self.account(account.id)
            assert found is not None
            return found

    def add_account(self, account: Account) -> None:
        with self._lock:
            if account.id in self._accounts or account.id in self._closed:
                raise Conflict(f"The name {account.id!r} is or was in use: choose another one.")
            self._open(account)

    def _open(self, account: Account) -> None:
        self._plan(account.plan)
        own = dict(account.own) | ({} if account.quota_gpus is None else {"gpus": account.quota_gpus})
        self._accounts[account.id] = replace(account, own=own)

    def _plan(self, name: str) -> AccountPlan:
        found = next((plan for plan in self.plans() if plan.name == name), None)
        if found is None:
            raise NotFound(f"There is no plan {name!r}: `runyard plans list` shows those that there are.")
        return found

    def account(self, account_id: str) -> Account | None:
        with self._lock:
            found = self._accounts.get(account_id)
            return None if found is None else replace(found, quota_gpus=self.quota_of(account_id).gpus)

    def accounts(self) -> Sequence[Account]:
        with self._lock:
            found = [self.account(account_id) for account_id in sorted(self._accounts)]
        return [account for account in found if account is not None]

    def change_account(self, account_id: str, *, name: str | None = None, plan: str | None = None) -> bool:
        with self._lock:
            there = self._accounts.get(account_id)
            if there is None:
                return False
            if plan is not None:
                there = replace(there, plan=self._plan(plan).name)
            self._accounts[account_id] = replace(there, name=there.name if name is None else name)
            return True

    def close_account(self, account_id: str, now_ms: int) -> bool:
        with self._lock:
            if account_id not in self._accounts:
                return False
            live = self._live(account_id)
            if live:
                raise Conflict(f"{account_id} has {live} runs that are not final: cancel them and wait for their end.")
            del self._accounts[account_id]
            self._closed.add(account_id)
            self._forget_members(account_id, now_ms)
            for key in [key for key in self._connections if key[0] == account_id]:
                del self._connections[key]
            return True

    def _live(self, account_id: str) -> int:
        raise NotImplementedError

    def _forget_members(self, account_id: str, now_ms: int) -> None:
        raise NotImplementedError

    def set_own_quota(self, account_id: str, own: OwnQuota, dropped: Collection[str] = ()) -> bool:
        with self._lock:
            there = self._accounts.get(account_id)
            if there is None:
                return False
            kept = {key: value for key, value in there.own.items() if key not in dropped} | dict(own)
            effective(Quota(), kept)
            self._accounts[account_id] = replace(there, own=kept)
            return True

    def quota_of(self, account_id: str) -> Quota:
        with self._lock:
            there = self._accounts.get(account_id)
            return Quota() if there is None else effective(self._plan(there.plan).quota, there.own)

    def quotas(self) -> Mapping[str, Quota]:
        with self._lock:
            return {account_id: self.quota_of(account_id) for account_id in self._accounts}

    def plans(self) -> Sequence[AccountPlan]:
        found = {plan.name: plan for plan in BUILT_IN} | self._plans
        return [found[name] for name in sorted(found)]

    def put_plan(self, plan: AccountPlan) -> None:
        with self._lock:
            self._plans[plan.name] = plan

    def delete_plan(self, name: str) -> bool:
        with self._lock:
            used = sum(account.plan == name for account in self._accounts.values())
            if used and not any(plan.name == name for plan in BUILT_IN):
                raise Conflict(f"{used} accounts are on the plan {name!r}: give them another one first.")
            return self._plans.pop(name, None) is not None

    def set_paused(self, account_id: str | None, paused: bool) -> bool:
        with self._lock:
            if account_id is None:
                self._paused = paused
            elif account_id in self._accounts:
                self._accounts[account_id] = replace(self._accounts[account_id], paused=paused)
            else:
                return False
            return True

    def queue_paused(self) -> bool:
        return self._paused

    def put_connection(self, record: ConnectionRecord) -> None:
        with self._lock:
            self._connections[record.account_id, record.name] = record

    def connection(self, account_id: str, name: str) -> ConnectionRecord | None:
        return self._connections.get((account_id, name))

    def connections(self, account_id: str) -> Sequence[ConnectionRecord]:
        with self._lock:
            return [self._connections[key] for key in sorted(self._connections) if key[0] == account_id]

    def delete_connection(self, account_id: str, name: str) -> bool:
        with self._lock:
            return self._connections.pop((account_id, name), None) is not None

    def add_definition(self, definition: Definition) -> None:
        with self._lock:
            there = self._definitions.setdefault((definition.account_id, definition.sha256), definition)
            if there.mentions_config is None:
                told = replace(there, mentions_config=definition.mentions_config)
                self._definitions[there.account_id, there.sha256] = told

    def definition(self, account_id: str, sha256: str) -> Definition | None:
        return self._definitions.get((account_id, sha256))

    def definition_known(self, sha256: str) -> bool:
        with self._lock:
            return any(key[1] == sha256 for key in self._definitions)
