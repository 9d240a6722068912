"""How long accounts keep what they have, what went of runs, and what nothing needs any more."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, LiteralString

from runyard.adapters.sql.changes import add_events
from runyard.adapters.sql.codec import to_json
from runyard.adapters.sql.database import Database, Transaction
from runyard.core.events import Event, EventKind
from runyard.core.retention import KEEP_TAG, Ended, Kept, Part
from runyard.core.run import FINAL, StateName

_FINAL: Final = ", ".join(f"'{state.value}'" for state in sorted(FINAL))
_LIVE: Final = ", ".join(f"'{state.value}'" for state in StateName if state not in FINAL)
_ENDED: Final = (
    "SELECT r.seq, r.id, r.account_id, r.spec_id, r.finished_ms, r.stored_ms, r.created_ms, "
    "EXISTS (SELECT 1 FROM tags t WHERE t.run_id = r.id AND t.tag = :keep) "
    "FROM runs r WHERE r.seq > :after AND {which} ORDER BY r.seq LIMIT :limit"
)
_OF_ALL: Final = f"r.state IN ({_FINAL})"
_OF_ONE: Final = "r.account_id = :account AND r.state = :state"
_THERE: Final = f"SELECT account_id, state FROM state_counts WHERE runs > 0 AND state IN ({_FINAL})"
_FEW: Final = 20
"""So many pairs of account and final state are read in their index, one after another. Where there are more, all runs
are walked through: the final ones are among them everywhere."""
_AWAITED: Final = (
    f"SELECT DISTINCT d.after_id FROM dependencies d JOIN runs r ON r.id = d.run_id WHERE r.state IN ({_LIVE})"
)
_ORIGINS: Final = (
    "SELECT DISTINCT s.id, s.spec FROM runs r JOIN specs s ON s.id = r.spec_id "
    f"WHERE r.state IN ({_LIVE}) AND s.spec LIKE :like"
)
_UNNEEDED: Final = (
    "SELECT d.account_id, d.sha256, d.size FROM definitions d WHERE d.created_ms < :before AND NOT EXISTS ("
    "SELECT 1 FROM (SELECT DISTINCT spec_id FROM runs) r JOIN specs s ON s.id = r.spec_id "
    "WHERE s.account_id = d.account_id AND s.code_sha256 = d.sha256)"
)


class RetentionTables:
    """What is kept, and for how long."""

    _db: Database

    def retentions(self) -> Mapping[str, Kept]:
        found: defaultdict[str, dict[Part, int]] = defaultdict(dict)
        with self._db.read() as tx:
            for account, part, kept_ms in tx.rows("SELECT account_id, part, kept_ms FROM retentions"):
                found[account][Part(part)] = kept_ms
        return found

    def set_retention(self, account_id: str, kept: Kept) -> bool:
        with self._db.write() as tx:
            if tx.row("SELECT 1 FROM accounts WHERE id = :account", account=account_id) is None:
                return False
            tx.change("DELETE FROM retentions WHERE account_id = :account", account=account_id)
            tx.change_each(
                "INSERT INTO retentions (account_id, part, kept_ms) VALUES (:account, :part, :kept)",
                [{"account": account_id, "part": part.value, "kept": age} for part, age in kept.items()],
            )
            return True

    def ended_runs(self, after_seq: int, limit: int) -> Sequence[Ended]:
        with self._db.read() as tx:
            rows = _ended_rows(tx, after_seq, limit)
            gone: defaultdict[str, set[Part]] = defaultdict(set)
            ids = [row[1] for row in rows]
            for run_id, part in tx.those("SELECT run_id, part FROM swept WHERE true", "run_id", ids):
                gone[run_id].add(Part(part))
        return [_ended(row, frozenset(gone.get(row[1], ()))) for row in rows]

    def needed_runs(self) -> frozenset[str]:
        with self._db.read() as tx:
            awaited = {row[0] for row in tx.rows(_AWAITED)}
            specs = [json.loads(row[1]) for row in tx.rows(_ORIGINS, like='%"start_from"%')]
        origins = {spec.get("options", {}).get("start_from") for spec in specs}
        return frozenset(awaited | (origins - {None}))

    def note_swept(self, run_id: str, parts: frozenset[Part], sentence: str, now_ms: int) -> bool:
        with self._db.write() as tx:
            row = tx.row("SELECT account_id, state, notes FROM runs WHERE id = :id", id=run_id)
            if row is None or row[1] not in FINAL:
                return False
            notes = to_json([*json.loads(row[2]), sentence])
            tx.change("UPDATE runs SET notes = :notes, version = version + 1 WHERE id = :id", notes=notes, id=run_id)
            named = [{"run": run_id, "part": part.value} for part in sorted(parts)]
            tx.change_each("INSERT INTO swept (run_id, part) VALUES (:run, :part) ON CONFLICT DO NOTHING", named)
            body = {"parts": sorted(part.value for part in parts)}
            add_events(tx, [Event(EventKind.swept, run_id, row[0], now_ms, None, body)])
            return True

    def forget_keys(self, before_ms: int) -> int:
        return self._drop("idempotency", "created_ms < :before", before_ms)

    def forget_tokens(self, before_ms: int) -> int:
        return self._drop("tokens", "expires_ms < :before OR revoked_ms < :before", before_ms)

    def _drop(self, table: LiteralString, which: LiteralString, before_ms: int) -> int:
        """Nothing is written, and no writer waits, where nothing is to go."""
        with self._db.read() as tx:
            count = int(tx.value(f"SELECT count(*) FROM {table} WHERE {which}", before=before_ms))
        if count:
            with self._db.write() as tx:
                tx.change(f"DELETE FROM {table} WHERE {which}", before=before_ms)
        return count

    def unneeded_definitions(self, before_ms: int) -> Sequence[tuple[str, str, int]]:
        with self._db.read() as tx:
            return [(row[0], row[1], int(row[2])) for row in tx.rows(_UNNEEDED, before=before_ms)]

    def drop_definition(self, account_id: str, sha256: str) -> bool:
        asked = {"account": account_id, "sha256": sha256}
        with self._db.write() as tx:
            tx.change("DELETE FROM definitions WHERE account_id = :account AND sha256 = :sha256", **asked)
            return tx.row("SELECT 1 FROM definitions WHERE sha256 = :sha256", sha256=sha256) is None


def _ended_rows(tx: Transaction, after_seq: int, limit: int) -> Sequence[tuple[Any, ...]]:
    asked = {"after": after_seq, "limit": limit, "keep": KEEP_TAG}
    there = tx.rows(_THERE)
    if len(there) > _FEW:
        return tx.rows(_ENDED.format(which=_OF_ALL), **asked)
    query = _ENDED.format(which=_OF_ONE)
    found = [row for account, state in there for row in tx.rows(query, account=account, state=state, **asked)]
    return sorted(found, key=lambda row: row[0])[:limit]


def _ended(row: tuple[Any, ...], gone: frozenset[Part]) -> Ended:
    seq, run_id, account_id, spec_id, finished_ms, stored_ms, created_ms, pinned = row
    ended_ms = max(created_ms, finished_ms or 0, stored_ms or 0)
    return Ended(seq, run_id, account_id, spec_id, ended_ms, bool(pinned), gone)
