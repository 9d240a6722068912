"""Members of accounts, and the tokens and passwords by which they are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from runyard.adapters.sql.database import Database, Transaction
from runyard.adapters.sql.schema import tokens
from runyard.core.account import Member, Principal, Role, Scope, member_id
from runyard.core.errors import Conflict, NotFound
from runyard.ports.accounts import TokenRecord

_PRINCIPAL: Final = (
    "SELECT t.id, t.scope, t.account_id, t.member_id, t.node_id, m.role FROM tokens t "
    "LEFT JOIN members m ON m.id = t.member_id AND m.removed_ms IS NULL "
    "LEFT JOIN accounts a ON a.id = t.account_id "
    "WHERE t.digest = :digest AND t.revoked_ms IS NULL AND (t.expires_ms IS NULL OR t.expires_ms > :now) "
    "AND a.closed_ms IS NULL AND (t.scope = 'node' OR m.id IS NOT NULL)"
)
_MEMBER: Final = "SELECT id, account_id, name, number, role FROM members"
_THERE: Final = "account_id = :account AND name = :name AND removed_ms IS NULL"
_OPEN: Final = "SELECT 1 FROM accounts WHERE id = :id AND closed_ms IS NULL"


class MemberTables:
    """Who acts."""

    _db: Database

    def ensure_member(self, member_id: str, account_id: str, name: str, role: Role = Role.user) -> Member:
        there = self.member(member_id)
        if there is not None:
            return there
        with self._db.write() as tx:
            return _member(tx, member_id) or _add(tx, member_id, account_id, name, role)

    def add_member(self, account_id: str, name: str, role: Role) -> Member:
        with self._db.write() as tx:
            row = tx.row(
                "SELECT id, removed_ms FROM members WHERE account_id = :account AND name = :name",
                account=account_id,
                name=name,
            )
            if row is None:
                return _add(tx, member_id(account_id, name), account_id, name, role)
            if row[1] is None:
                raise Conflict(f"{account_id} has a member {name!r} already: change the role, or choose another name.")
            tx.change(
                "UPDATE members SET removed_ms = NULL, password = NULL, subject = NULL, role = :role WHERE id = :id",
                role=role.value,
                id=row[0],
            )
            found = _member(tx, row[0])
            assert found is not None
            return found

    def member(self, member_id: str) -> Member | None:
        with self._db.read() as tx:
            return _member(tx, member_id)

    def members(self, account_id: str) -> Sequence[Member]:
        query = f"{_MEMBER} WHERE account_id = :account AND removed_ms IS NULL ORDER BY name"
        with self._db.read() as tx:
            return [_made(row) for row in tx.rows(query, account=account_id)]

    def set_role(self, account_id: str, name: str, role: Role) -> bool:
        change = f"UPDATE members SET role = :role WHERE {_THERE}"
        with self._db.write() as tx:
            return tx.change(change, role=role.value, account=account_id, name=name) == 1

    def remove_member(self, account_id: str, name: str, now_ms: int) -> bool:
        with self._db.write() as tx:
            found = tx.value(f"SELECT id FROM members WHERE {_THERE}", account=account_id, name=name)
            if found is None:
                return False
            tx.change("UPDATE members SET removed_ms = :now, password = NULL WHERE id = :id", now=now_ms, id=found)
            tx.change(
                "UPDATE tokens SET revoked_ms = :now WHERE member_id = :id AND revoked_ms IS NULL AND scope <> 'node'",
                now=now_ms,
                id=found,
            )
            return True

    def set_password(self, account_id: str, name: str, hashed: str | None) -> bool:
        change = f"UPDATE members SET password = :hashed WHERE {_THERE}"
        with self._db.write() as tx:
            return tx.change(change, hashed=hashed, account=account_id, name=name) == 1

    def password(self, account_id: str, name: str) -> tuple[Member, str | None] | None:
        query = (
            "SELECT m.id, m.account_id, m.name, m.number, m.role, m.password FROM members m "
            "JOIN accounts a ON a.id = m.account_id AND a.closed_ms IS NULL "
            "WHERE m.account_id = :account AND m.name = :name AND m.removed_ms IS NULL"
        )
        with self._db.read() as tx:
            row = tx.row(query, account=account_id, name=name)
        return None if row is None else (_made(row[:5]), row[5])

    def by_subject(self, account_id: str, subject: str) -> tuple[Member, bool] | None:
        query = (
            "SELECT m.id, m.account_id, m.name, m.number, m.role, m.removed_ms FROM members m "
            "JOIN accounts a ON a.id = m.account_id AND a.closed_ms IS NULL "
            "WHERE m.account_id = :account AND m.subject = :subject"
        )
        with self._db.read() as tx:
            row = tx.row(query, account=account_id, subject=subject)
        return None if row is None else (_made(row[:5]), row[5] is None)

    def bind_subject(self, account_id: str, name: str, subject: str) -> bool:
        taken = "SELECT 1 FROM members WHERE account_id = :account AND subject = :subject AND name <> :name"
        change = f"UPDATE members SET subject = :subject WHERE {_THERE} AND (subject IS NULL OR subject = :subject)"
        with self._db.write() as tx:
            if tx.row(taken, account=account_id, subject=subject, name=name) is not None:
                return False
            return tx.change(change, account=account_id, subject=subject, name=name) == 1

    def principal(self, digest: str, now_ms: int) -> Principal | None:
        with self._db.read() as tx:
            row = tx.row(_PRINCIPAL, digest=digest, now=now_ms)
        if row is None:
            return None
        token_id, scope, account_id, member, node_id, role = row
        return Principal(token_id, Scope(scope), account_id, member, node_id, Role(role) if role else Role.viewer)

    def add_token(self, token: TokenRecord) -> None:
        row = {name: getattr(token, name) for name in tokens.c.keys()}  # noqa: SIM118  # it is no mapping
        with self._db.write() as tx:
            same = sa.or_(tokens.c.id == token.id, tokens.c.digest == token.digest)
            if tx.connection.execute(sa.select(tokens.c.id).where(same)).first() is not None:
                raise Conflict(f"There is a token {token.id!r} already: make another one.")
            tx.connection.execute(tokens.insert(), {**row, "scope": token.scope.value})

    def tokens(self, account_id: str, member_id: str | None = None) -> Sequence[TokenRecord]:
        query = sa.select(tokens).where(tokens.c.account_id == account_id).order_by(tokens.c.created_ms, tokens.c.id)
        if member_id is not None:
            query = query.where(tokens.c.member_id == member_id)
        with self._db.read() as tx:
            return [_token(row) for row in tx.connection.execute(query)]

    def revoke_token(self, account_id: str, token_id: str, now_ms: int) -> bool:
        mine = sa.and_(tokens.c.id == token_id, tokens.c.account_id == account_id, tokens.c.revoked_ms.is_(None))
        with self._db.write() as tx:
            return tx.connection.execute(tokens.update().where(mine).values(revoked_ms=now_ms)).rowcount == 1

    def note_used(self, used: Mapping[str, int]) -> None:
        change = "UPDATE tokens SET used_ms = :at WHERE id = :id AND (used_ms IS NULL OR used_ms < :at)"
        with self._db.write() as tx:
            tx.change_each(change, [{"id": token_id, "at": at} for token_id, at in used.items()])


def _add(tx: Transaction, member_id: str, account_id: str, name: str, role: Role) -> Member:
    if tx.row(_OPEN, id=account_id) is None:
        raise NotFound(f"There is no account {account_id!r}: create it first.")
    last = tx.value("SELECT max(number) FROM members")
    made = Member(member_id, account_id, name, 1 if last is None else int(last) + 1, role)
    tx.change(
        "INSERT INTO members (id, account_id, name, number, role) VALUES (:id, :account, :name, :number, :role)",
        id=made.id,
        account=account_id,
        name=name,
        number=made.number,
        role=role.value,
    )
    return made


def _member(tx: Transaction, member_id: str) -> Member | None:
    row = tx.row(f"{_MEMBER} WHERE id = :id", id=member_id)
    return None if row is None else _made(row)


def _made(row: Sequence[Any]) -> Member:
    return Member(row[0], row[1], row[2], row[3], Role(row[4]))


def _token(row: sa.Row[Any]) -> TokenRecord:
    return TokenRecord(
        id=row.id,
        digest=row.digest,
        hint=row.hint,
        scope=Scope(row.scope),
        account_id=row.account_id,
        member_id=row.member_id,
        name=row.name,
        created_ms=row.created_ms,
        node_id=row.node_id,
        expires_ms=row.expires_ms,
        revoked_ms=row.revoked_ms,
        used_ms=row.used_ms,
    )
