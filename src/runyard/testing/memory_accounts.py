"""Accounts, tokens, connections and definitions of the store in memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from runyard.core.account import Account, Member, Principal
from runyard.core.errors import Conflict, NotFound
from runyard.ports.store import ConnectionRecord, Definition, TokenRecord


class MemoryAccounts:
    """Who pays, who acts, what they have stored."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self._accounts: dict[str, Account] = {}
        self._members: dict[str, Member] = {}
        self._tokens: dict[str, TokenRecord] = {}
        self._connections: dict[tuple[str, str], ConnectionRecord] = {}
        self._definitions: dict[tuple[str, str], Definition] = {}
        self._paused = False

    def ensure_account(self, account: Account) -> Account:
        with self._lock:
            return self._accounts.setdefault(account.id, account)

    def ensure_member(self, member_id: str, account_id: str, name: str) -> Member:
        with self._lock:
            if member_id not in self._members:
                if account_id not in self._accounts:
                    raise NotFound(f"There is no account {account_id!r}: create it first.")
                self._members[member_id] = Member(member_id, account_id, name, len(self._members) + 1)
            return self._members[member_id]

    def member(self, member_id: str) -> Member | None:
        return self._members.get(member_id)

    def account(self, account_id: str) -> Account | None:
        return self._accounts.get(account_id)

    def accounts(self) -> Sequence[Account]:
        with self._lock:
            return sorted(self._accounts.values(), key=lambda account: account.id)

    def set_quota(self, account_id: str, gpus: int | None) -> bool:
        with self._lock:
            if account_id not in self._accounts:
                return False
            self._accounts[account_id] = replace(self._accounts[account_id], quota_gpus=gpus)
            return True

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

    def principal(self, digest: str, now_ms: int) -> Principal | None:
        with self._lock:
            token = next((token for token in self._tokens.values() if token.digest == digest), None)
        if token is None or token.revoked_ms is not None:
            return None
        if token.expires_ms is not None and token.expires_ms <= now_ms:
            return None
        return Principal(token.id, token.scope, token.account_id, token.member_id, token.node_id)

    def add_token(self, token: TokenRecord) -> None:
        with self._lock:
            if token.id in self._tokens or any(token.digest == other.digest for other in self._tokens.values()):
                raise Conflict(f"There is a token {token.id!r} already: make another one.")
            self._tokens[token.id] = token

    def tokens(self, account_id: str) -> Sequence[TokenRecord]:
        with self._lock:
            mine = [token for token in self._tokens.values() if token.account_id == account_id]
        return sorted(mine, key=lambda token: (token.created_ms, token.id))

    def revoke_token(self, account_id: str, token_id: str, now_ms: int) -> bool:
        with self._lock:
            token = self._tokens.get(token_id)
            if token is None or token.account_id != account_id or token.revoked_ms is not None:
                return False
            self._tokens[token_id] = replace(token, revoked_ms=now_ms)
            return True

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
