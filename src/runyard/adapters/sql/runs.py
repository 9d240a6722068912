"""Reading runs and what they share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import sqlalchemy as sa

from runyard.adapters.sql.codec import (
    ATTEMPT_COLUMNS,
    RUN_COLUMNS,
    RUN_TABLES,
    attempt_of,
    body_of,
    environment_from_json,
    run_of,
    spec_of,
)
from runyard.adapters.sql.database import Database, Transaction
from runyard.adapters.sql.schema import specs, state_counts
from runyard.core.run import Attempt, Run, StateName
from runyard.ports.store import RunQuery, StoredSpec


class RunTables:
    """What runs are and how they stand."""

    _db: Database

    def run(self, run_id: str) -> Run | None:
        if not _is_key(run_id):
            return None
        with self._db.read() as tx:
            found = fetch_runs(tx, [run_id])
        return found[0] if found else None

    def runs_of(self, run_ids: Sequence[str]) -> Sequence[Run]:
        with self._db.read() as tx:
            return fetch_runs(tx, [run_id for run_id in run_ids if _is_key(run_id)])

    def runs(self, query: RunQuery) -> Sequence[Run]:
        with self._db.read() as tx:
            return fetch_runs(tx, [run_id for _seq, run_id in _newest(tx, query)])

    def listed(self, query: RunQuery) -> Sequence[tuple[int, str]]:
        with self._db.read() as tx:
            return _newest(tx, query)

    def run_ids(self, account_id: str | None, prefix: str, limit: int) -> Sequence[str]:
        if not _is_key(prefix):
            return ()
        # An expression, so that the index of ids is used and not that of accounts.
        mine, whose = ("", {}) if account_id is None else (" AND account_id || '' = :account", {"account": account_id})
        sql = f"SELECT id FROM runs WHERE id >= :first AND id < :beyond{mine} ORDER BY id LIMIT :limit"
        with self._db.read() as tx:
            return [row[0] for row in tx.rows(sql, first=prefix, beyond=prefix + "\x7f", limit=limit, **whose)]

    def counts(self, account_id: str | None) -> Mapping[StateName, int]:
        query = sa.select(state_counts.c.state, sa.func.sum(state_counts.c.runs)).group_by(state_counts.c.state)
        if account_id is not None:
            query = query.where(state_counts.c.account_id == account_id)
        with self._db.read() as tx:
            rows = tx.connection.execute(query).all()
        return {StateName(state): int(count) for state, count in rows if count}

    def spec(self, spec_id: int) -> StoredSpec | None:
        query = sa.select(specs).where(specs.c.id == spec_id)
        with self._db.read() as tx:
            row = tx.connection.execute(query).first()
        if row is None:
            return None
        return StoredSpec(
            id=row.id,
            account_id=row.account_id,
            spec=spec_of(row.spec),
            code_sha256=row.code_sha256,
            append_args=row.append_args,
            provenance=body_of(row.provenance),
            sealed=row.sealed,
            environment=environment_from_json(row.environment),
        )


def fetch_runs(tx: Transaction, run_ids: Sequence[str]) -> list[Run]:
    """The runs of these ids, in this order, with attempts and tags; those that are not there are left out."""
    if not run_ids:
        return []
    attempts: defaultdict[str, list[Attempt]] = defaultdict(list)
    for row in sorted(tx.those(f"SELECT run_id, {ATTEMPT_COLUMNS} FROM attempts WHERE true", "run_id", run_ids)):
        attempts[row[0]].append(attempt_of(row[1:]))
    labels: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for run_id, position, tag in tx.those("SELECT run_id, position, tag FROM tags WHERE true", "run_id", run_ids):
        labels[run_id].append((position, tag))
    found: dict[str, Run] = {}
    for row in tx.those(f"SELECT {RUN_COLUMNS} FROM {RUN_TABLES} WHERE true", "r.id", run_ids):
        found[row[0]] = run_of(row, attempts[row[0]], (tag for _position, tag in sorted(labels[row[0]])))
    return [found[run_id] for run_id in run_ids if run_id in found]


_LAST: Final = (1 << 63) - 1
_FEW: Final = 2000
"""So many runs in some states are looked through for a tag; where there are more, the runs with the tag are."""


def _newest(tx: Transaction, query: RunQuery) -> list[tuple[int, str]]:
    if not _is_text(query.name or "") or not _is_text(query.tag or ""):
        return []
    return sorted(_look(tx, query), reverse=True)[: query.limit]


def _look(tx: Transaction, query: RunQuery) -> list[tuple[int, str]]:
    """One ordered look for each account and state: each is read in an index, and none of any depth slows another's."""
    if query.account_id is None and not query.states and query.tag is None and query.name is None:
        return _page(tx, query, "FROM runs r WHERE true")
    everybody = [query.account_id]
    if query.account_id is None:
        everybody = [row[0] for row in tx.rows("SELECT id FROM accounts")]
    found: list[tuple[int, str]] = []
    for account_id in everybody:
        for source in _sources(tx, query, account_id):
            found += _page(tx, query, source, account_id)
    return found


def _sources(tx: Transaction, query: RunQuery, account_id: str | None) -> list[str]:
    states = sorted(query.states or StateName)
    if query.tag is None:
        return [_of_state(state, query) for state in states]
    in_these = ", ".join(f"'{state.value}'" for state in states)
    if query.states:
        count = tx.value(
            f"SELECT sum(runs) FROM state_counts WHERE account_id = :account AND state IN ({in_these})",
            account=account_id,
        )
        if int(count or 0) <= _FEW:
            tagged = " AND EXISTS (SELECT 1 FROM tags t WHERE t.run_id = r.id AND t.tag = :tag)"
            return [_of_state(state, query) + tagged for state in states]
    named = "" if query.name is None else " AND r.name = :name"
    # SQLite reads the tables of a CROSS JOIN in this order (sqlite.org/optoverview.html, 8.2).
    tagged = "FROM tags t CROSS JOIN runs r WHERE t.account_id = :account AND t.tag = :tag AND r.seq = t.seq"
    return [f"{tagged} AND r.state IN ({in_these}){named}"]


def _of_state(state: StateName, query: RunQuery) -> str:
    mine = "FROM runs r WHERE r.account_id = :account"
    if query.name is None:
        return f"{mine} AND r.state = '{state.value}'"
    # A stretch of the index by name. By three equal signs PostgreSQL may take the one by state, and look through it.
    place = "(r.name, r.state, r.seq)"
    return f"{mine} AND {place} >= (:name, '{state.value}', 0) AND {place} <= (:name, '{state.value}', {_LAST})"


def _page(tx: Transaction, query: RunQuery, source: str, account_id: str | None = None) -> list[tuple[int, str]]:
    seq = "t.seq" if source.startswith("FROM tags") else "r.seq"
    below = "" if query.before_seq is None else f" AND {seq} < :before"
    given = {"account": account_id, "tag": query.tag, "name": query.name, "before": query.before_seq}
    order = "r.name DESC, r.state DESC, r.seq" if "(r.name, r.state, r.seq)" in source else seq
    rows = tx.rows(
        f"SELECT r.seq, r.id {source}{below} ORDER BY {order} DESC LIMIT :limit",
        limit=query.limit,
        **{key: value for key, value in given.items() if value is not None},
    )
    return [(row[0], row[1]) for row in rows]


def _is_key(text: str) -> bool:
    """Whether it can be (the beginning of) an id."""
    return text.isascii() and text.isprintable()


def _is_text(text: str) -> bool:
    """Whether a database can hold it: some characters are refused even in a question."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
