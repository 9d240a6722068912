"""Writing many new runs: a few thousand in each statement, all that they share said once.

SQLite reads them out of one JSON text: it does so ten times as fast as it is handed values one by one, and lets the
other threads of the process go on meanwhile. The text is an object, ``{"00000training-a1B2c3D4e": {...}}``: keys and
values come out of it in a quarter of the time that a look into an array for each takes. PostgreSQL reads arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from runyard.adapters.sql.database import Transaction
from runyard.adapters.sql.ranks import RANK_STEP

AT_ONCE: Final = 2000

SHARED: Final = (
    "account_id", "member_id", "spec_id", "class_id", "priority", "state", "detail", "version", "created_ms",
    "max_retries", "attempt", "not_before_ms", "notes",
)  # fmt: skip
"""The columns that are the same in all runs of a submission."""

_DIGITS: Final = 5
"""Of a row's place among those of its statement, before its id."""
_COLUMNS: Final = f"seq, rank, id, name, parameters, {', '.join(SHARED)}"
_VALUES: Final = ", ".join(f":{name}" for name in SHARED)
_FROM_JSON: Final = (
    f"INSERT INTO runs ({_COLUMNS}) SELECT :first + substr(key, 1, {_DIGITS}), "
    f"(:first + substr(key, 1, {_DIGITS})) * {RANK_STEP}, substr(key, {_DIGITS + 1}), :name, value, {_VALUES} "
    "FROM json_each(:runs)"
)
_FROM_ARRAYS: Final = (
    f"INSERT INTO runs ({_COLUMNS}) SELECT :first + n - 1, (:first + n - 1) * {RANK_STEP}, id, :name, parameters, "
    f"{_VALUES} FROM unnest(CAST(:ids AS text[]), CAST(:parameters AS text[])) "
    "WITH ORDINALITY AS given(id, parameters, n)"
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
    for begin, end in _stretches(names):
        given = {"first": first + begin, "name": names[begin], **shared}
        if tx.is_sqlite:
            tx.change(_FROM_JSON, runs=_as_json(ids[begin:end], parameters[begin:end]), **given)
        else:
            arrays = {"ids": list(ids[begin:end]), "parameters": list(parameters[begin:end])}
            tx.change(_FROM_ARRAYS, **arrays, **given)


def add_tags(tx: Transaction, first: int, count: int, tags: Sequence[str]) -> None:
    """Give runs with consecutive sequence numbers their tags."""
    for position, tag in enumerate(dict.fromkeys(tags)):
        tx.change(_TAG, tag=tag, position=position, first=first, last=first + count - 1)


def _as_json(ids: Sequence[str], parameters: Sequence[str]) -> str:
    """Parameters are JSON objects already; they come out again without the white space between their parts."""
    rows = (
        f'"{place:0{_DIGITS}}{run_id}":{own}' for place, (run_id, own) in enumerate(zip(ids, parameters, strict=True))
    )
    return f"{{{','.join(rows)}}}"


def _stretches(names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Beginnings and ends of what goes into one statement: not too many, and all of one name."""
    begin = 0
    for end in range(1, len(names) + 1):
        if end == len(names) or end - begin == AT_ONCE or names[end] != names[begin]:
            yield begin, end
            begin = end
