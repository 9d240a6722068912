"""Stored connections, and which model definitions each account has uploaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from runyard.adapters.sql.codec import from_json, to_json
from runyard.adapters.sql.database import Database, Transaction
from runyard.adapters.sql.schema import connections, definitions
from runyard.core.spec import Connection, StoreKind
from runyard.ports.store import ConnectionRecord, Definition


class ConnectionTables:
    """What accounts have stored."""

    _db: Database

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


def _connection(row: sa.Row[Any]) -> ConnectionRecord:
    kind, connection = StoreKind(row.kind), from_json(row.connection, Connection)
    return ConnectionRecord(row.account_id, row.name, kind, connection, row.created_ms, row.sealed)
