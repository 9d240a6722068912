"""All sealed texts, wherever they stand: for a change of the installation's key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runyard.adapters.sql.database import Database
from runyard.ports.sealed import SealedKind, SealedText

_NAMES: Final = {SealedKind.connection: "name", SealedKind.secret: "name", SealedKind.spec: "id"}
_TABLES: Final = {kind: f"{kind.value}s" for kind in SealedKind}


class SealedTables:
    """What the vault has sealed."""

    _db: Database

    def sealed_texts(self, kind: SealedKind, key: bytes, limit: int) -> Sequence[SealedText]:
        query = (
            f"SELECT account_id, {_NAMES[kind]}, sealed FROM {_TABLES[kind]} "
            "WHERE sealed IS NOT NULL AND substr(sealed, 1, :length) <> :key LIMIT :limit"
        )
        with self._db.read() as tx:
            rows = tx.rows(query, length=len(key), key=key, limit=limit)
        return [SealedText(kind, account_id, str(name), bytes(sealed)) for account_id, name, sealed in rows]

    def reseal(self, old: SealedText, sealed: bytes) -> bool:
        change = (
            f"UPDATE {_TABLES[old.kind]} SET sealed = :sealed "
            f"WHERE account_id = :account AND {_NAMES[old.kind]} = :name AND sealed = :old"
        )
        name = int(old.name) if old.kind is SealedKind.spec else old.name
        with self._db.write() as tx:
            return tx.change(change, sealed=sealed, account=old.account_id, name=name, old=old.sealed) == 1

    def any_sealed(self) -> bool:
        with self._db.read() as tx:
            tables = (f"SELECT 1 FROM {table} WHERE sealed IS NOT NULL" for table in _TABLES.values())
            return any(tx.row(f"{query} LIMIT 1") is not None for query in tables)
