"""Reading runs and what they share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

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
from runyard.adapters.sql.schema import accounts, runs, specs, state_counts, tags
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
        if not _is_text(query.name or "") or not _is_text(query.tag or ""):
            return []
        with self._db.read() as tx:
            found = [(seq, run_id) for page in _pages(tx, query) for seq, run_id in tx.connection.execute(page)]
            newest = sorted(found, reverse=True)[: query.limit]
            return fetch_runs(tx, [run_id for _seq, run_id in newest])

    def run_ids(self, account_id: str | None, prefix: str, limit: int) -> Sequence[str]:
        if not _is_key(prefix):
            return ()
        query = sa.select(runs.c.id).order_by(runs.c.id).limit(limit)
        query = query.where(runs.c.id >= prefix, runs.c.id < prefix + "\x7f")
        if account_id is not None:
            # An expression, so that the index of ids is used and not that of accounts.
            query = query.where(runs.c.account_id + "" == account_id)
        with self._db.read() as tx:
            return list(tx.connection.execute(query).scalars())

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


def _pages(tx: Transaction, query: RunQuery) -> Iterator[sa.Select[int, str]]:
    """One ordered look for each account and state: each is read in an index, and none of any depth slows another's."""
    if not query.states or query.tag is not None:
        yield _page(query, query.account_id, query.states)
        return
    everybody = [query.account_id]
    if query.account_id is None:
        everybody = list(tx.connection.execute(sa.select(accounts.c.id)).scalars())
    for account_id in everybody:
        for state in sorted(query.states):
            yield _page(query, account_id, {state})


def _page(query: RunQuery, account_id: str | None, states: Collection[StateName]) -> sa.Select[int, str]:
    page = sa.select(runs.c.seq, runs.c.id).order_by(runs.c.seq.desc()).limit(query.limit)
    if account_id is not None:
        page = page.where(runs.c.account_id == account_id)
    if len(states) == 1:
        page = page.where(runs.c.state == next(iter(states)).value)
    elif states:
        page = page.where(runs.c.state.in_(sorted(states)))
    if query.name is not None:
        page = page.where(runs.c.name == query.name)
    if query.before_seq is not None:
        page = page.where(runs.c.seq < query.before_seq)
    if query.tag is not None:
        page = page.join(tags, tags.c.seq == runs.c.seq).where(tags.c.tag == query.tag)
    return page


def _is_key(text: str) -> bool:
    """Whether it can be (the beginning of) an id."""
    return text.isascii() and text.isprintable()


def _is_text(text: str) -> bool:
    """Whether a database can hold it: some characters are refused even in a question."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
