"""Members, tokens and the audit log of the store in memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

from runyard.core.account import Account, Member, Principal, Role, Scope, member_id
from runyard.core.errors import Conflict, NotFound
from runyard.ports.accounts import TokenRecord
from runyard.ports.audit import AuditEntry


class MemoryMembers:
    """Who acts, and what they did."""

    _lock: threading.RLock
    _accounts: dict[str, Account]
    _closed: set[str]

    def __init__(self) -> None:
        super().__init__()
        self._members: dict[str, Member] = {}
        self._removed: set[str] = set()
        self._passwords: dict[str, str | None] = {}
        self._subjects: dict[str, str] = {}
        self._tokens: dict[str, TokenRecord] = {}
        self._audit: list[AuditEntry] = []

    def ensure_member(self, member_id: str, account_id: str, name: str, role: Role = Role.user) -> Member:
        with self._lock:
            return self._members.get(member_id) or self._add(member_id, account_id, name, role)

    def _add(self, member_id: str, account_id: str, name: str, role: Role) -> Member:
        if account_id not in self._accounts:
            raise NotFound(f"There is no account {account_id!r}: create it first.")
        self._members[member_id] = Member(member_id, account_id, name, len(self._members) + 1, role)
        return self._members[member_id]

    def add_member(self, account_id: str, name: str, role: Role) -> Member:
        with self._lock:
            there = self._named(account_id, name, removed=True)
            if there is None:
                return self._add(member_id(account_id, name), account_id, name, role)
            if there.id not in self._removed:
                raise Conflict(f"{account_id} has a member {name!r} already: change the role, or choose another name.")
            self._removed.remove(there.id)
            self._subjects.pop(there.id, None)
            self._members[there.id] = replace(there, role=role)
            return self._members[there.id]

    def _named(self, account_id: str, name: str, *, removed: bool = False) -> Member | None:
        found = (each for each in self._members.values() if (each.account_id, each.name) == (account_id, name))
        return next((each for each in found if removed or each.id not in self._removed), None)

    def member(self, member_id: str) -> Member | None:
        return self._members.get(member_id)

    def members(self, account_id: str) -> Sequence[Member]:
        with self._lock:
            mine = [each for each in self._members.values() if each.account_id == account_id]
            return sorted((each for each in mine if each.id not in self._removed), key=lambda each: each.name)

    def set_role(self, account_id: str, name: str, role: Role) -> bool:
        with self._lock:
            there = self._named(account_id, name)
            if there is not None:
                self._members[there.id] = replace(there, role=role)
            return there is not None

    def remove_member(self, account_id: str, name: str, now_ms: int) -> bool:
        with self._lock:
            there = self._named(account_id, name)
            if there is None:
                return False
            self._removed.add(there.id)
            self._passwords.pop(there.id, None)
            for token in [each for each in self._tokens.values() if each.member_id == there.id]:
                if token.revoked_ms is None and token.scope is not Scope.node:
                    self._tokens[token.id] = replace(token, revoked_ms=now_ms)
            return True

    def _forget_members(self, account_id: str, now_ms: int) -> None:
        for token in [each for each in self._tokens.values() if each.account_id == account_id]:
            if token.revoked_ms is None:
                self._tokens[token.id] = replace(token, revoked_ms=now_ms)
        for member in self._members.values():
            if member.account_id == account_id:
                self._passwords.pop(member.id, None)

    def set_password(self, account_id: str, name: str, hashed: str | None) -> bool:
        with self._lock:
            there = self._named(account_id, name)
            if there is not None:
                self._passwords[there.id] = hashed
            return there is not None

    def password(self, account_id: str, name: str) -> tuple[Member, str | None] | None:
        with self._lock:
            there = self._named(account_id, name) if account_id in self._accounts else None
            return None if there is None else (there, self._passwords.get(there.id))

    def by_subject(self, account_id: str, subject: str) -> tuple[Member, bool] | None:
        with self._lock:
            if account_id not in self._accounts:
                return None
            mine = [each for each in self._members.values() if each.account_id == account_id]
            found = next((each for each in mine if self._subjects.get(each.id) == subject), None)
            return None if found is None else (found, found.id not in self._removed)

    def bind_subject(self, account_id: str, name: str, subject: str) -> bool:
        with self._lock:
            there = self._named(account_id, name)
            known = self.by_subject(account_id, subject)
            if there is None or (known is not None and known[0].id != there.id):
                return False
            return self._subjects.setdefault(there.id, subject) == subject

    def principal(self, digest: str, now_ms: int) -> Principal | None:
        with self._lock:
            token = next((token for token in self._tokens.values() if token.digest == digest), None)
            if token is None or token.revoked_ms is not None or token.account_id in self._closed:
                return None
            if token.expires_ms is not None and token.expires_ms <= now_ms:
                return None
            member = self._members.get(token.member_id) if token.member_id not in self._removed else None
            if member is None and token.scope is not Scope.node:
                return None
            role = Role.viewer if member is None else member.role
            return Principal(token.id, token.scope, token.account_id, token.member_id, token.node_id, role)

    def add_token(self, token: TokenRecord) -> None:
        with self._lock:
            if token.id in self._tokens or any(token.digest == other.digest for other in self._tokens.values()):
                raise Conflict(f"There is a token {token.id!r} already: make another one.")
            self._tokens[token.id] = token

    def tokens(self, account_id: str, member_id: str | None = None) -> Sequence[TokenRecord]:
        with self._lock:
            mine = [token for token in self._tokens.values() if token.account_id == account_id]
        mine = [token for token in mine if member_id is None or token.member_id == member_id]
        return sorted(mine, key=lambda token: (token.created_ms, token.id))

    def revoke_token(self, account_id: str, token_id: str, now_ms: int) -> bool:
        with self._lock:
            token = self._tokens.get(token_id)
            if token is None or token.account_id != account_id or token.revoked_ms is not None:
                return False
            self._tokens[token_id] = replace(token, revoked_ms=now_ms)
            return True

    def note_used(self, used: Mapping[str, int]) -> None:
        with self._lock:
            for token_id, at in used.items():
                token = self._tokens.get(token_id)
                if token is not None and (token.used_ms is None or token.used_ms < at):
                    self._tokens[token_id] = replace(token, used_ms=at)

    def add_audit(self, entries: Sequence[AuditEntry]) -> None:
        with self._lock:
            self._audit += entries

    def audit(
        self, account_id: str | None, *, since_ms: int = 0, before_seq: int | None = None, limit: int = 100
    ) -> Sequence[tuple[int, AuditEntry]]:
        with self._lock:
            found = [
                (seq, each)
                for seq, each in enumerate(self._audit, 1)
                if account_id in (None, each.account_id) and each.at_ms >= since_ms
            ]
        return [each for each in reversed(found) if before_seq is None or each[0] < before_seq][:limit]
