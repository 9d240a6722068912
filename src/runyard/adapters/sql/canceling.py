"""Canceling very many waiting runs: what one transition does to the first, a few statements do to all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from runyard.adapters.sql.changes import count_classes, count_states, find_stage_ranks
from runyard.adapters.sql.codec import to_json
from runyard.adapters.sql.database import Database, Transaction
from runyard.adapters.sql.places import BLOCK, count_blocks
from runyard.adapters.sql.runs import fetch_runs
from runyard.core import lifecycle
from runyard.core.run import BLOCKED, GRANTED, StateName, StopCause

_AMONG: Final = {True: "SELECT value FROM json_each(:ids)", False: "SELECT unnest(CAST(:ids AS text[]))"}
_FOUND: Final = (
    "SELECT seq, id, class_id, spec_id, priority, rank, not_before_ms, ready_on IS NOT NULL FROM runs WHERE "
    # Expressions, so that the index of ids is used and not that of all that wait.
    "id IN ({among}) AND account_id || '' = :account AND state || '' = 'waiting' AND attempt + 0 = 0 "
    f"AND not_before_ms + 0 <> {GRANTED}"
)
_TELL: Final = "INSERT INTO events (seq, kind, run_id, account_id, at_ms, attempt, body) SELECT "
_TOLD: Final = {
    True: ":first + key, :kind, value, :account, :now, NULL, :body FROM json_each(:ids)",
    False: ":first + n - 1, :kind, id, :account, :now, NULL, :body "
    "FROM unnest(CAST(:ids AS text[])) WITH ORDINALITY AS given(id, n)",
}
_CHANGE: Final = (
    "UPDATE runs SET state = :state, detail = :detail, version = version + 1, not_before_ms = 0, finished_ms = :now "
    "WHERE id IN ({among})"
)


class CancelTables:
    """The way out for what never began."""

    _db: Database

    def cancel_waiting(self, account_id: str, run_ids: Sequence[str], now_ms: int) -> Sequence[str]:
        with self._db.write() as tx:
            rows = sorted(tx.rows(_FOUND.format(among=_AMONG[tx.is_sqlite]), ids=_ids(tx, run_ids), account=account_id))
            if not rows:
                return ()
            pattern = lifecycle.stop(fetch_runs(tx, [rows[0][1]])[0], StopCause.cancel, now_ms)
            assert pattern is not None
            ids = [row[1] for row in rows]
            _change_like(tx, pattern, ids)
            _count(tx, account_id, rows)
        return ids


def _ids(tx: Transaction, run_ids: Sequence[str]) -> object:
    return to_json(run_ids) if tx.is_sqlite else list(run_ids)


def _change_like(tx: Transaction, pattern: lifecycle.Transition, ids: Sequence[str]) -> None:
    after, (event,) = pattern.after, pattern.events
    given, body, detail = _ids(tx, ids), to_json(dict(event.body)), to_json(after.state)
    tx.change(
        _TELL + _TOLD[tx.is_sqlite],
        first=tx.take("event", len(ids)),
        kind=event.kind.value,
        account=event.account_id,
        now=event.at_ms,
        body=body,
        ids=given,
    )
    tx.change(
        _CHANGE.format(among=_AMONG[tx.is_sqlite]),
        state=after.state_name.value,
        detail=detail,
        now=after.finished_ms,
        ids=given,
    )


def _count(tx: Transaction, account_id: str, rows: Sequence[tuple[int, str, int, int, int, int, int, bool]]) -> None:
    waiting: Counter[int] = Counter()
    ready: Counter[int] = Counter()
    blocks: Counter[tuple[int, int]] = Counter()
    for _seq, _id, class_id, _spec_id, priority, rank, not_before, is_ready in rows:
        waiting[class_id] -= 1
        ready[class_id] -= bool(is_ready)
        blocks[priority, rank // BLOCK] -= not_before < BLOCKED
    count_states(tx, {(account_id, StateName.waiting): -len(rows), (account_id, StateName.canceled): len(rows)})
    count_classes(tx, waiting, ready)
    count_blocks(tx, blocks)
    find_stage_ranks(tx, {row[3] for row in rows if not row[7]})
