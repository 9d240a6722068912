"""Stored secrets: names, times, and values that only the vault can open."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from runyard.adapters.sql.connections import put
from runyard.adapters.sql.database import Database
from runyard.adapters.sql.schema import secrets
from runyard.ports.secrets import SecretRecord


class SecretTables:
    """What accounts keep for their programs."""

    _db: Database

    def put_secret(self, record: SecretRecord) -> None:
        values = {"created_ms": record.created_ms, "sealed": record.sealed}
        with self._db.write() as tx:
            put(tx, secrets, {"account_id": record.account_id, "name": record.name}, values)

    def secret(self, account_id: str, name: str) -> SecretRecord | None:
        query = sa.select(secrets).where(secrets.c.account_id == account_id, secrets.c.name == name)
        with self._db.read() as tx:
            row = tx.connection.execute(query).first()
        return None if row is None else SecretRecord(*row)

    def secrets(self, account_id: str) -> Sequence[SecretRecord]:
        query = sa.select(secrets).where(secrets.c.account_id == account_id).order_by(secrets.c.name)
        with self._db.read() as tx:
            return [SecretRecord(*row) for row in tx.connection.execute(query)]

    def delete_secret(self, account_id: str, name: str) -> bool:
        mine = sa.and_(secrets.c.account_id == account_id, secrets.c.name == name)
        with self._db.write() as tx:
            return tx.connection.execute(secrets.delete().where(mine)).rowcount == 1
