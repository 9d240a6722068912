"""Writing many new runs: a few thousand in each statement, all that they share said once.

SQLite reads them out of one JSON text: it does so ten times as fast as it is handed values one by one, and lets the
other threads of the process go on meanwhile. PostgreSQL reads arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from runyard.adapters.sql.codec import to_json
from runyard.adapters.sql.database import Transaction
from runyard.adapters.sql.ranks import RANK_STEP

AT_ONCE: Final = 2000

SHARED: Final = (
    "account_id", "member_id", "spec_id", "class_id", "priority", "state", "detail", "version", "created_ms",
    "max_retries", "attempt", "not_before_ms", "notes",
)  # fmt: skip
"""The columns that are the same in all runs of a submission."""

_COLUMNS: Final = f"seq, rank, id, name, parameters, {', '.join(SHARED)}"
_VALUES: Final = ", ".join(f":{name}" for name in SHARED)
_FROM_JSON: Final = (
    f"INSERT INTO runs ({_COLUMNS}) SELECT :first + key, (:first + key) * {RANK_STEP}, json_extract(value, '$[0]'), "
    f"json_extract(value, '$[1]'), json_extract(value, '$[2]'), {_VALUES} FROM json_each(:runs)"
)
_FROM_ARRAYS: Final = (
    f"INSERT INTO runs ({_COLUMNS}) SELECT :first + n - 1, (:first + n - 1) * {RANK_STEP}, id, name, parameters, "
    f"{_VALUES} FROM unnest(CAST(:ids AS text[]), CAST(:names AS text[]), CAST(:parameters AS text[])) "
    "WITH ORDINALITY AS given(id, name, parameters, n)"
)
_TAG: Final = (
    "INSERT INTO tags (run_id, tag, seq, position, account_id) "
    "SELECT id, :tag, seq, :position, account_id FROM runs WHERE seq BETWEEN :first AND :last"
)


def add_runs(
    tx: Transaction,
    first: int,
    shared: Mapping[str, object],
    ids: Sequence[str],
    names: Sequence[str],
    parameters: Sequence[str],
) -> None:
    """Insert runs with consecutive sequence numbers; ``shared`` has a value for each column of ``SHARED``."""
    for begin, end in _stretches(len(ids)):
        part = slice(begin, end)
        if tx.is_sqlite:
            tx.change(
                _FROM_JSON, first=first + begin, runs=_as_json(ids[part], names[part], parameters[part]), **shared
            )
        else:
            arrays = {"ids": list(ids[part]), "names": list(names[part]), "parameters": list(parameters[part])}
            tx.change(_FROM_ARRAYS, first=first + begin, **arrays, **shared)


def add_tags(tx: Transaction, first: int, count: int, tags: Sequence[str]) -> None:
    """Give runs with consecutive sequence numbers their tags."""
    for position, tag in enumerate(dict.fromkeys(tags)):
        tx.change(_TAG, tag=tag, position=position, first=first, last=first + count - 1)


def _as_json(ids: Sequence[str], names: Sequence[str], parameters: Sequence[str]) -> str:
    """Parameters are JSON objects already; they come out again without the white space between their parts."""
    named = {name: to_json(name) for name in set(names)}
    rows = (f'["{run_id}",{named[name]},{own}]' for run_id, name, own in zip(ids, names, parameters, strict=True))
    return f"[{','.join(rows)}]"


def _stretches(count: int) -> Iterator[tuple[int, int]]:
    return pairwise((*range(0, count, AT_ONCE), count))
