"""Who did what: rows that are added and never changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Final

from runyard.adapters.sql.codec import insert_into
from runyard.adapters.sql.database import Database
from runyard.ports.audit import AuditEntry

_COLUMNS: Final = tuple(each.name for each in fields(AuditEntry))
_INSERT: Final = insert_into("audit", ("seq", *_COLUMNS))
_SELECT: Final = f"SELECT seq, {', '.join(_COLUMNS)} FROM audit WHERE seq < :before AND at_ms >= :since"
_END: Final = (1 << 63) - 1


class AuditTables:
    """The list of what was done."""

    _db: Database

    def add_audit(self, entries: Sequence[AuditEntry]) -> None:
        if not entries:
            return
        with self._db.write() as tx:
            first = int(tx.value("SELECT coalesce(max(seq), 0) + 1 FROM audit"))
            tx.change_each(_INSERT, [{"seq": first + place} | asdict(each) for place, each in enumerate(entries)])

    def audit(
        self, account_id: str | None, *, since_ms: int = 0, before_seq: int | None = None, limit: int = 100
    ) -> Sequence[tuple[int, AuditEntry]]:
        before = _END if before_seq is None else before_seq
        whose = "" if account_id is None else " AND account_id = :account"
        about = {} if account_id is None else {"account": account_id}
        with self._db.read() as tx:
            rows = tx.rows(
                f"{_SELECT}{whose} ORDER BY seq DESC LIMIT :limit", before=before, since=since_ms, limit=limit, **about
            )
        return [(row[0], AuditEntry(*row[1:])) for row in rows]
