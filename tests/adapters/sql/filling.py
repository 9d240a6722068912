"""Rows for every table of a schema, whatever it is: so that no table is forgotten by what has to know all of them."""

import sqlalchemy as sa

from runyard.adapters.sql.database import Database

ROWS = 3


def fill(database: Database, metadata: sa.MetaData) -> None:
    """Three rows in every table, in the place of what was there; those that refer to others refer to theirs."""
    with database.write() as tx:
        for table in reversed(metadata.sorted_tables):
            tx.connection.execute(table.delete())
        for table in metadata.sorted_tables:
            for number in range(1, ROWS + 1):
                tx.connection.execute(table.insert().values({c.name: _value(table, c, number) for c in table.columns}))


def _value(table: sa.Table, column: sa.Column[object], number: int) -> object:
    for key in column.foreign_keys:
        return _value(key.column.table, key.column, number)
    if (table.name, column.name) in PLAIN:
        return PLAIN[table.name, column.name][number - 1]
    if column.name in ("run_id", "after_id") or (table.name, column.name) == ("runs", "id"):
        return f"training-fill{number:05d}"
    if column.name in JSON:
        return JSON[column.name]
    if isinstance(column.type, sa.Boolean):
        return number % 2 == 0
    if isinstance(column.type, sa.LargeBinary):
        return bytes(range(256)) * number
    if isinstance(column.type, sa.Integer):
        return number
    if isinstance(column.type, sa.Float):
        return number / 7
    return f"{column.name} {number}"


PLAIN = {
    ("runs", "state"): ("waiting", "waiting", "waiting"),
    ("runs", "attempt"): (0, 0, 0),
    ("counters", "name"): ("event", "run", "spec_floor"),
    ("attempts", "ending"): (None, None, None),
    ("runs", "ready_on"): (None, "local", "local"),
    ("events", "kind"): ("accepted", "accepted", "accepted"),
}
JSON = {
    "spec": "{}",
    "detail": "{}",
    "notes": "[]",
    "features": "[]",
    "packages": "{}",
    "gpu_names": "[]",
    "slots": "[0]",
    "body": '{"member": "\\u0000é𝄞 and %s and \\t"}',
    "provenance": "{}",
    "environment": "{}",
    "connection": "{}",
    "parameters": "{}",
}
