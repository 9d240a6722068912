"""Events, the ledger and its sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from runyard.adapters.sql.changes import latest_event_ms
from runyard.adapters.sql.codec import recorded_of
from runyard.adapters.sql.database import Database
from runyard.adapters.sql.schema import ledger, members, tags
from runyard.core.events import EventKind, Recorded
from runyard.core.metering import LedgerEntry
from runyard.ports.store import UsageRow

MS_PER_DAY: Final = 86_400_000
_LEDGER: Final = (
    "SELECT run_id, attempt, account_id, member_id, from_ms, to_ms, gpu_ms, cpu_ms, gb_ms, cost, waste FROM ledger"
)
_EVENTS: Final = "SELECT seq, kind, run_id, account_id, at_ms, attempt, body FROM events"


class HistoryTables:
    """What happened, and what it held."""

    _db: Database

    def events(
        self,
        after_seq: int,
        limit: int,
        *,
        account_id: str | None = None,
        run_id: str | None = None,
        kinds: frozenset[EventKind] = frozenset(),
    ) -> Sequence[Recorded]:
        asked: dict[str, object] = {"after": after_seq, "limit": limit}
        wheres = ["seq > :after"]
        for name, value in (("account_id", account_id), ("run_id", run_id)):
            if value is not None:
                wheres.append(f"{name} = :{name}")
                asked[name] = value
        if kinds:
            asked |= {f"kind{i}": kind.value for i, kind in enumerate(sorted(kinds))}
            wheres.append(f"kind IN ({', '.join(f':kind{i}' for i in range(len(kinds)))})")
        sql = f"{_EVENTS} WHERE {' AND '.join(wheres)} ORDER BY seq LIMIT :limit"
        with self._db.read() as tx:
            return [recorded_of(row) for row in tx.rows(sql, **asked)]

    def last_seq(self) -> int:
        with self._db.read() as tx:
            return int(tx.value("SELECT value FROM counters WHERE name = 'event'"))

    def latest_event_ms(self) -> int:
        with self._db.read() as tx:
            return latest_event_ms(tx)

    def ledger(self, run_id: str) -> Sequence[LedgerEntry]:
        with self._db.read() as tx:
            rows = tx.rows(f"{_LEDGER} WHERE run_id = :run ORDER BY attempt", run=run_id)
        return [LedgerEntry(*row, waste=bool(waste)) for *row, waste in rows]

    def usage(self, account_id: str | None, by: str, since_ms: int | None, until_ms: int | None) -> Sequence[UsageRow]:
        if by not in _GROUPS:
            raise ValueError(f"usage can be grouped by {', '.join(_GROUPS)}, not by {by!r}")
        group, joined, label = _GROUPS[by]
        query = sa.select(group.label("label"), *_SUMS).select_from(joined).group_by(group)
        if account_id is not None:
            query = query.where(ledger.c.account_id == account_id)
        if since_ms is not None:
            query = query.where(ledger.c.from_ms >= since_ms)
        if until_ms is not None:
            query = query.where(ledger.c.from_ms < until_ms)
        with self._db.read() as tx:
            rows = [UsageRow(label(row[0]), *map(int, row[1:])) for row in tx.connection.execute(query)]
        return sorted(rows, key=lambda row: row.group)


def _billed(column: sa.Column[int]) -> sa.ColumnElement[int]:
    return sa.func.sum(sa.case((ledger.c.waste, 0), else_=column))


_SUMS: Final = (
    sa.func.count(sa.distinct(ledger.c.run_id)),
    sa.func.count(),
    _billed(ledger.c.gpu_ms),
    _billed(ledger.c.cpu_ms),
    _billed(ledger.c.gb_ms),
    _billed(ledger.c.cost),
    sa.func.sum(sa.case((ledger.c.waste, ledger.c.gpu_ms), else_=0)),
)


def _day(number: int) -> str:
    return datetime.fromtimestamp(number * MS_PER_DAY / 1000, UTC).date().isoformat()


_GROUPS: Final[dict[str, tuple[sa.ColumnElement[Any], sa.FromClause, Callable[[Any], str]]]] = {
    "account": (ledger.c.account_id, ledger, str),
    "user": (
        sa.func.coalesce(members.c.name, ledger.c.member_id),
        ledger.outerjoin(members, members.c.id == ledger.c.member_id),
        str,
    ),
    "day": (ledger.c.from_ms // MS_PER_DAY, ledger, _day),
    "tag": (tags.c.tag, ledger.join(tags, tags.c.run_id == ledger.c.run_id), str),
}
