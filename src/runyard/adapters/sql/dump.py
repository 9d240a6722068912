"""All rows of a database as files that either database can be filled from.

A dump is a folder: ``TABLE.jsonl.gz`` for each table, a JSON array a row, and ``dump.json``, written last, which names
the schema's revision, and of each file its columns, rows and SHA-256. Bytes are base64 texts, truths true and false.
Tables and columns are those that the database itself names, so a new table needs no word here.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import sqlalchemy as sa

from runyard.adapters.sql.database import Database, Transaction
from runyard.adapters.sql.migrate import HEAD, STAMP, Tell, revision_in, unheard, upgrade
from runyard.core.errors import RunyardError

INDEX: Final = "dump.json"
_FORMAT: Final = 1
_ROWS: Final = 5000


class DumpedTable(msgspec.Struct, frozen=True):
    """One file of a dump."""

    columns: tuple[str, ...]
    rows: int
    sha256: str


class Dump(msgspec.Struct, frozen=True):
    """What ``dump.json`` says."""

    format: int
    revision: str
    tables: dict[str, DumpedTable]

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables.values())


class BrokenDump(RunyardError):
    """A dump that is not whole, or not one of ours."""

    code = "broken_backup"


def dump(database: Database, folder: Path, tell: Tell = unheard) -> Dump:
    """Write all rows as they are at one moment, while others go on writing. ``folder`` is made."""
    with database.read() as tx:
        return dump_in(tx, folder, tell)


def dump_in(tx: Transaction, folder: Path, tell: Tell = unheard) -> Dump:
    """The same, of what an open transaction sees."""
    revision = revision_in(tx)
    if revision is None:
        raise RunyardError("This database has no tables of Runyard: there is nothing to keep.")
    folder.mkdir(parents=True, mode=0o700)
    made = {str(table.name): _write(tx, table, folder, tell) for table in _tables(tx.connection)}
    found = Dump(_FORMAT, revision, made)
    _durable(folder / INDEX, msgspec.json.format(msgspec.json.encode(found)))
    return found


def _tables(connection: sa.Connection) -> Sequence[sa.Table]:
    """The tables that are there, those that others refer to first."""
    found = sa.MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name != STAMP]


def _write(tx: Transaction, table: sa.Table, folder: Path, tell: Tell) -> DumpedTable:
    flags = [isinstance(column.type, sa.Boolean) for column in table.columns]
    query = sa.select(*(sa.type_coerce(column, sa.types.NullType()) for column in table.columns))
    found = tx.connection.execute(query, execution_options={"stream_results": True, "yield_per": _ROWS})
    digest, count = hashlib.sha256(), 0
    path = folder / f"{table.name}.jsonl.gz"
    with _Hashed(path, digest) as raw, gzip.GzipFile("", "wb", 1, raw, 0) as file:  # pyright: ignore[reportArgumentType]  # it writes and flushes
        for rows in found.partitions():
            file.write(b"".join(_line(row, flags) for row in rows))
            count += len(rows)
            tell(table.name, count)
    return DumpedTable(tuple(str(column.name) for column in table.columns), count, digest.hexdigest())


def _line(row: Sequence[Any], flags: Sequence[bool]) -> bytes:
    values = [bool(value) if flag and value is not None else value for value, flag in zip(row, flags, strict=True)]
    return msgspec.json.encode(values) + b"\n"


class _Hashed:
    """A new file, for its owner alone, durable when it is closed, whose bytes a digest is taken of."""

    def __init__(self, path: Path, digest: Any) -> None:
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
        self._digest = digest

    def __enter__(self) -> _Hashed:
        return self

    def __exit__(self, *_: object) -> None:
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())

    def write(self, chunk: bytes) -> int:
        """Add bytes."""
        self._digest.update(chunk)
        return self._file.write(chunk)

    def flush(self) -> None:
        """As the file's."""
        self._file.flush()


def _durable(path: Path, text: bytes) -> None:
    with _Hashed(path, hashlib.sha256()) as file:
        file.write(text)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_index(folder: Path) -> Dump:
    """What a dump says of itself. Raises :class:`BrokenDump`."""
    try:
        found = msgspec.json.decode((folder / INDEX).read_bytes(), type=Dump)
    except FileNotFoundError:
        raise BrokenDump(f"{folder} holds no whole dump of a database: {INDEX} is missing.") from None
    except msgspec.DecodeError as error:
        raise BrokenDump(f"{folder / INDEX} cannot be read: {error}.") from None
    if found.format != _FORMAT:
        raise BrokenDump(f"{folder} has format {found.format}, this version reads {_FORMAT}: use a newer Runyard.")
    return found


def check(folder: Path) -> Dump:
    """Read a whole dump and compare it with its index. Raises :class:`BrokenDump`."""
    found = read_index(folder)
    for name, table in found.tables.items():
        rows = sum(1 for _ in rows_of(folder, name, table))
        if rows != table.rows:
            raise BrokenDump(f"The table {name} has {rows} rows, not {table.rows}: the dump is damaged.")
    return found


def rows_of(folder: Path, name: str, table: DumpedTable) -> Iterator[list[Any]]:
    """The rows of a table, after its file was compared with its hash. Raises :class:`BrokenDump`."""
    path = folder / f"{name}.jsonl.gz"
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise BrokenDump(f"The file of the table {name} is missing: the dump is damaged.") from None
    if sha256 != table.sha256:
        raise BrokenDump(f"The file of the table {name} is not what was written: the dump is damaged.")
    decoder = msgspec.json.Decoder(list[Any])
    with gzip.open(path, "rb") as file:
        for line in file:
            yield decoder.decode(line)


def load(database: Database, folder: Path, tell: Tell = unheard, *, replace: bool = False, to: str = HEAD) -> Dump:
    """Fill a database from a dump and bring its schema to ``to``, all in one transaction.

    The database has no tables of ours, unless it is to be ``replace``d. Raises :class:`BrokenDump`, ``RunyardError``.
    """
    found = read_index(folder)
    with database.write() as tx:
        load_in(tx, folder, found, tell, replace=replace)
        if to != found.revision:
            upgrade(tx.connection, to)
    return found


def load_in(tx: Transaction, folder: Path, found: Dump, tell: Tell = unheard, *, replace: bool = False) -> None:
    """The same inside a transaction, with the schema that the dump has."""
    if replace:
        there = sa.MetaData()
        there.reflect(tx.connection)
        there.drop_all(tx.connection)
    elif revision_in(tx) is not None:
        raise RunyardError("There is an installation in this database: restore into an empty one.")
    upgrade(tx.connection, found.revision)
    tables = _tables(tx.connection)
    for table in reversed(tables):
        tx.connection.execute(table.delete())  # what the migrations have put there
    for table in tables:
        dumped = found.tables.get(table.name)
        if dumped is not None:
            _fill(tx, table, dumped, folder, tell)


def _fill(tx: Transaction, table: sa.Table, dumped: DumpedTable, folder: Path, tell: Tell) -> None:
    rows = _typed(rows_of(folder, table.name, dumped), [table.columns[name].type for name in dumped.columns])
    count = 0
    while batch := list(islice(rows, _ROWS)):
        if tx.is_sqlite:
            marks, names = ", ".join("?" * len(dumped.columns)), ", ".join(f'"{name}"' for name in dumped.columns)
            tx.connection.exec_driver_sql(f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})', batch)
        else:
            _copy(tx.connection, table.name, dumped.columns, batch)
        count += len(batch)
        tell(table.name, count)


def _copy(connection: sa.Connection, name: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    driver = cast(Any, connection.connection.dbapi_connection)  # psycopg's, whose COPY SQLAlchemy has no word for
    names = ", ".join(f'"{column}"' for column in columns)
    with driver.cursor() as cursor, cursor.copy(f'COPY "{name}" ({names}) FROM STDIN') as copy:
        for row in rows:
            copy.write_row(row)


def _typed(rows: Iterator[list[Any]], types: Sequence[object]) -> Iterator[tuple[Any, ...]]:
    """Rows with the values that the drivers want."""
    of_bytes = [at for at, kind in enumerate(types) if isinstance(kind, sa.LargeBinary)]
    for row in rows:
        for at in of_bytes:
            if row[at] is not None:
                row[at] = msgspec.convert(row[at], bytes)
        yield tuple(row)


def summary(found: Dump) -> Mapping[str, int]:
    """Rows of each table that has any."""
    return {name: table.rows for name, table in found.tables.items() if table.rows}
