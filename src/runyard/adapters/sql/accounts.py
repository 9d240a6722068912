"""Accounts, members, tokens, stored connections, model definitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from runyard.adapters.sql.codec import from_json, to_json
from runyard.adapters.sql.database import Database, Transaction
from runyard.adapters.sql.schema import accounts, connections, definitions, members, settings, tokens
from runyard.core.account import Account, Member, Principal, Scope
from runyard.core.errors import Conflict, NotFound
from runyard.core.spec import Connection, StoreKind
from runyard.ports.store import ConnectionRecord, Definition, TokenRecord

QUEUE_PAUSED: Final = "queue_paused"
_PRINCIPAL: Final = sa.select(tokens).where(tokens.c.digest == sa.bindparam("digest"))


class AccountTables:
    """Who pays, who acts, and what they have stored."""

    _db: Database

    def ensure_account(self, account: Account) -> Account:
        there = self.account(account.id)
        if there is not None:
            return there
        with self._db.write() as tx:
            there = _account(tx, account.id)
            if there is not None:
                return there
            row = {"id": account.id, "name": account.name, "quota_gpus": account.quota_gpus, "paused": account.paused}
            tx.connection.execute(accounts.insert(), row)
            return account

    def ensure_member(self, member_id: str, account_id: str, name: str) -> Member:
        there = self.member(member_id)
        if there is not None:
            return there
        with self._db.write() as tx:
            there = _member(tx, member_id)
            if there is not None:
                return there
            if _account(tx, account_id) is None:
                raise NotFound(f"There is no account {account_id!r}: create it first.")
            last = tx.value("SELECT max(number) FROM members")
            made = Member(member_id, account_id, name, 1 if last is None else int(last) + 1)
            row = {"id": made.id, "account_id": account_id, "name": name, "number": made.number}
            tx.connection.execute(members.insert(), row)
            return made

    def member(self, member_id: str) -> Member | None:
        with self._db.read() as tx:
            return _member(tx, member_id)

    def account(self, account_id: str) -> Account | None:
        with self._db.read() as tx:
            return _account(tx, account_id)

    def accounts(self) -> Sequence[Account]:
        with self._db.read() as tx:
            rows = tx.rows("SELECT id, name, quota_gpus, paused FROM accounts ORDER BY id")
        return [Account(*row, paused=bool(paused)) for *row, paused in rows]

    def set_quota(self, account_id: str, gpus: int | None) -> bool:
        with self._db.write() as tx:
            change = accounts.update().where(accounts.c.id == account_id).values(quota_gpus=gpus)
            return tx.connection.execute(change).rowcount == 1

    def set_paused(self, account_id: str | None, paused: bool) -> bool:
        with self._db.write() as tx:
            if account_id is None:
                put(tx, settings, {"name": QUEUE_PAUSED}, {"value": "1" if paused else "0"})
                return True
            change = accounts.update().where(accounts.c.id == account_id).values(paused=paused)
            return tx.connection.execute(change).rowcount == 1

    def queue_paused(self) -> bool:
        with self._db.read() as tx:
            return tx.value("SELECT value FROM settings WHERE name = :name", name=QUEUE_PAUSED) == "1"

    def principal(self, digest: str, now_ms: int) -> Principal | None:
        with self._db.read() as tx:
            row = tx.connection.execute(_PRINCIPAL, {"digest": digest}).first()
        if row is None:
            return None
        token = _token(row)
        if token.revoked_ms is not None or (token.expires_ms is not None and token.expires_ms <= now_ms):
            return None
        return Principal(token.id, token.scope, token.account_id, token.member_id, token.node_id)

    def add_token(self, token: TokenRecord) -> None:
        row = {name: getattr(token, name) for name in tokens.c.keys()}  # noqa: SIM118  # it is no mapping
        with self._db.write() as tx:
            same = sa.or_(tokens.c.id == token.id, tokens.c.digest == token.digest)
            if tx.connection.execute(sa.select(tokens.c.id).where(same)).first() is not None:
                raise Conflict(f"There is a token {token.id!r} already: make another one.")
            tx.connection.execute(tokens.insert(), {**row, "scope": token.scope.value})

    def tokens(self, account_id: str) -> Sequence[TokenRecord]:
        query = sa.select(tokens).where(tokens.c.account_id == account_id).order_by(tokens.c.created_ms, tokens.c.id)
        with self._db.read() as tx:
            return [_token(row) for row in tx.connection.execute(query)]

    def revoke_token(self, account_id: str, token_id: str, now_ms: int) -> bool:
        mine = sa.and_(tokens.c.id == token_id, tokens.c.account_id == account_id, tokens.c.revoked_ms.is_(None))
        with self._db.write() as tx:
            return tx.connection.execute(tokens.update().where(mine).values(revoked_ms=now_ms)).rowcount == 1

    def put_connection(self, record: ConnectionRecord) -> None:
        values = {
            "kind": record.kind.value,
            "connection": to_json(record.connection),
            "created_ms": record.created_ms,
            "sealed": record.sealed,
        }
        with self._db.write() as tx:
            put(tx, connections, {"account_id": record.account_id, "name": record.name}, values)

    def connection(self, account_id: str, name: str) -> ConnectionRecord | None:
        query = sa.select(connections).where(connections.c.account_id == account_id, connections.c.name == name)
        with self._db.read() as tx:
            row = tx.connection.execute(query).first()
        return None if row is None else _connection(row)

    def connections(self, account_id: str) -> Sequence[ConnectionRecord]:
        query = sa.select(connections).where(connections.c.account_id == account_id).order_by(connections.c.name)
        with self._db.read() as tx:
            return [_connection(row) for row in tx.connection.execute(query)]

    def delete_connection(self, account_id: str, name: str) -> bool:
        mine = sa.and_(connections.c.account_id == account_id, connections.c.name == name)
        with self._db.write() as tx:
            return tx.connection.execute(connections.delete().where(mine)).rowcount == 1

    def add_definition(self, definition: Definition) -> None:
        key = {"account_id": definition.account_id, "sha256": definition.sha256}
        with self._db.write() as tx:
            there = tx.connection.execute(sa.select(definitions).where(_is(definitions, key))).first()
            if there is None:
                row = {"size": definition.size, "created_ms": definition.created_ms}
                told = {"mentions_config": definition.mentions_config}
                tx.connection.execute(definitions.insert(), key | row | told)
            elif there.mentions_config is None and definition.mentions_config is not None:
                told = {"mentions_config": definition.mentions_config}
                tx.connection.execute(definitions.update().where(_is(definitions, key)).values(told))

    def definition(self, account_id: str, sha256: str) -> Definition | None:
        key = {"account_id": account_id, "sha256": sha256}
        with self._db.read() as tx:
            row = tx.connection.execute(sa.select(definitions).where(_is(definitions, key))).first()
        return None if row is None else Definition(*row)

    def definition_known(self, sha256: str) -> bool:
        with self._db.read() as tx:
            return tx.value("SELECT 1 FROM definitions WHERE sha256 = :sha256 LIMIT 1", sha256=sha256) is not None


def put(tx: Transaction, table: sa.Table, key: dict[str, Any], values: dict[str, Any]) -> None:
    """Create or replace a row. Writers take turns, so nobody comes between."""
    if tx.connection.execute(table.update().where(_is(table, key)).values(values)).rowcount == 0:
        tx.connection.execute(table.insert(), key | values)


def _is(table: sa.Table, key: dict[str, Any]) -> sa.ColumnElement[bool]:
    return sa.and_(*(table.c[name] == value for name, value in key.items()))


def _account(tx: Transaction, account_id: str) -> Account | None:
    row = tx.connection.execute(sa.select(accounts).where(accounts.c.id == account_id)).first()
    return None if row is None else Account(*row)


def _member(tx: Transaction, member_id: str) -> Member | None:
    row = tx.connection.execute(sa.select(members).where(members.c.id == member_id)).first()
    return None if row is None else Member(*row)


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
    )


def _connection(row: sa.Row[Any]) -> ConnectionRecord:
    kind, connection = StoreKind(row.kind), from_json(row.connection, Connection)
    return ConnectionRecord(row.account_id, row.name, kind, connection, row.created_ms, row.sealed)
