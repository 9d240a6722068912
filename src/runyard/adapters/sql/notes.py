"""Short notes that an installation keeps about itself."""

from __future__ import annotations

from typing import Final

from runyard.adapters.sql.accounts import put
from runyard.adapters.sql.database import Database
from runyard.adapters.sql.schema import settings

PREFIX: Final = "note:"


class NoteTables:
    """Rows of ``settings`` whose names begin with ``note:``."""

    _db: Database

    def note(self, name: str) -> str | None:
        with self._db.read() as tx:
            return tx.value("SELECT value FROM settings WHERE name = :name", name=PREFIX + name)

    def put_note(self, name: str, text: str | None) -> None:
        with self._db.write() as tx:
            if text is None:
                tx.change("DELETE FROM settings WHERE name = :name", name=PREFIX + name)
            else:
                put(tx, settings, {"name": PREFIX + name}, {"value": text})
