"""A database, SQLite or PostgreSQL: connections, transactions, and the few words in which the two differ."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import InterfaceError, OperationalError

from runyard.adapters.sql.copying import MOST, Copier
from runyard.adapters.sql.schema import know_postgres
from runyard.core.errors import NotLeading, StoreAway

BUSY_TIMEOUT_S: Final = 30.0
_MOST_IDLE: Final = 4
"""Connections for reading that are kept at hand; as many more lie in the pool."""
_READERS_KIB: Final = 512
"""What SQLite keeps of the file for each of them. Whatever another connection writes empties it, and the kernel has the
file in memory: more was not faster, and ten times two megabytes took half an hour to fill."""
WRITER_KEY: Final = 0x52_55_4E_59  # "RUNY": the advisory lock of those who write to a PostgreSQL database
_ALIVE: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""So that a database whose machine is gone is noticed within seconds (libpq's parameters)."""
_STEPS: Final = 2_000_000
"""Of SQLite's machine between two calls while it is busy: a tenth of a second or less."""
_log = logging.getLogger(__name__)
_PARAMETER: Final = re.compile(r":([a-z_][a-z0-9_]*)")

Parameters = Mapping[str, object]


@lru_cache(maxsize=2048)
def to_pyformat(sql: str) -> str:
    """Rewrite ``:name`` parameters as psycopg wants them. The text holds no ``%`` and no colon of another meaning."""
    return _PARAMETER.sub(r"%(\1)s", sql)


class Transaction:
    """An open transaction. Hot statements go to the driver as text, the others through ``connection``."""

    def __init__(self, connection: sa.Connection, *, pyformat: bool) -> None:
        self.connection = connection
        driver = connection.connection.dbapi_connection
        assert driver is not None
        self._driver: DBAPIConnection = driver
        self._pyformat = pyformat

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is SQLite, for the few statements that it says in words of its own."""
        return not self._pyformat

    def _cursor(self, sql: str, parameters: Parameters) -> DBAPICursor:
        cursor = self._driver.cursor()
        cursor.execute(to_pyformat(sql) if self._pyformat else sql, parameters)
        return cursor

    def rows(self, sql: str, **parameters: object) -> Sequence[tuple[Any, ...]]:
        """All rows of a query."""
        return self._cursor(sql, parameters).fetchall()

    def row(self, sql: str, **parameters: object) -> tuple[Any, ...] | None:
        """The first row of a query, None without any."""
        cursor = self._cursor(sql, parameters)
        found: tuple[Any, ...] | None = cursor.fetchone()
        cursor.close()
        return found

    def value(self, sql: str, **parameters: object) -> Any:
        """The first column of the first row, None without any row."""
        found = self.row(sql, **parameters)
        return None if found is None else found[0]

    def change(self, sql: str, **parameters: object) -> int:
        """Execute a statement; returns how many rows it touched."""
        return self._cursor(sql, parameters).rowcount

    def change_each(self, sql: str, rows: Sequence[Parameters]) -> None:
        """Execute a statement once for each set of parameters."""
        if rows:
            self._driver.cursor().executemany(to_pyformat(sql) if self._pyformat else sql, rows)

    def those(self, sql: str, column: str, values: Sequence[object], **parameters: object) -> Sequence[tuple[Any, ...]]:
        """All rows of ``sql`` (which ends in a WHERE clause) whose ``column`` is one of ``values``, in chunks."""
        found: list[tuple[Any, ...]] = []
        for start in range(0, len(values), 500):
            chunk = {f"v{i}": value for i, value in enumerate(values[start : start + 500])}
            marks = ", ".join(f":{name}" for name in chunk)
            found += self.rows(f"{sql} AND {column} IN ({marks})", **chunk, **parameters)
        return found

    def rows_changed(self) -> int:
        """How many rows this connection has changed since it was opened, where SQLite counts them."""
        return int(getattr(self._driver, "total_changes", 0))

    def is_open(self) -> bool:
        """Whether the database is in a transaction of SQLite's on this connection."""
        return bool(getattr(self._driver, "in_transaction", False))

    @contextmanager
    def telling(self, tell: Callable[[], None]) -> Generator[None]:
        """Have SQLite call something now and then while it is busy with statements; PostgreSQL is silent."""
        if self._pyformat:
            yield
            return
        driver: Any = self._driver
        driver.set_progress_handler(tell, _STEPS)
        try:
            yield
        finally:
            driver.set_progress_handler(None, 0)

    def take(self, counter: str, count: int) -> int:
        """Take the next ``count`` numbers of a counter; returns the first of them."""
        self.change("UPDATE counters SET value = value + :count WHERE name = :name", count=count, name=counter)
        return int(self.value("SELECT value FROM counters WHERE name = :name", name=counter)) - count + 1


class Turn:
    """A lock that goes to those who wait in the order in which they came: who takes it again and again, as large
    work in many transactions does, keeps nobody from it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def __enter__(self) -> None:
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False


class Database:
    """One database. Writers take turns (a lock in this process, then the database's own); readers never wait for them.

    A reader sees one moment of the database for as long as its transaction lasts.
    """

    def __init__(self, url: str, holder: str = "", epoch: int | None = None) -> None:
        """``holder``: by which name PostgreSQL knows our sessions; with ``epoch`` nothing is written once another
        server has taken the lease (:mod:`runyard.adapters.sql.lease`)."""
        self.url = _canonical(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.returned: Callable[[], None] | None = None
        """Called when the database answers again after it did not; quick, and asks it for nothing."""
        self._away = False
        self._turn = Turn()
        self._copier: Copier | None = None
        if self.is_sqlite:
            self._writer, self._reader = _sqlite_engines(self.url)
            self._copier = Copier(partial(_connect_to_copy, self.url), self._turn)
        else:
            self._writer, self._reader = _postgres_engines(self.url, holder, epoch)
        driver = self._writer.dialect.loaded_dbapi
        self._failures: tuple[type[Exception], ...] = (OperationalError, InterfaceError, driver.OperationalError)
        self._kept: sa.Connection | None = (
            None  # a file's connection does not get lost: no need to ask for it each time
        )
        self._idle: list[sa.Connection] = []
        self.integrity_error: type[Exception] = self._writer.dialect.loaded_dbapi.IntegrityError

    @contextmanager
    def write(self) -> Generator[Transaction]:
        """A transaction that changes something: committed durably at the end, rolled back when an error leaves it."""
        with self._turn, self._noticing(), self._writing() as connection:
            with connection.begin():
                transaction = Transaction(connection, pyformat=not self.is_sqlite)
                rows = transaction.rows_changed()
                yield transaction
            if self._copier is not None:
                self._copier.wrote(transaction.rows_changed() - rows)

    @contextmanager
    def _noticing(self) -> Generator[None]:
        """Notice that PostgreSQL went away, and that it is back. SQLite's file is always there."""
        if self.is_sqlite:
            yield
            return
        try:
            yield
        except self._failures as error:
            self._away = True
            _log.warning("the database does not answer: %s", str(error).partition("\n")[0])
            raise StoreAway(
                "The database does not answer: nothing is lost, and what waits goes on when it is back. Try again."
            ) from error
        if self._away:
            self._away = False
            _log.warning("the database answers again")
            if self.returned is not None:
                self.returned()

    @contextmanager
    def _writing(self) -> Generator[sa.Connection]:
        if not self.is_sqlite:
            with self._writer.connect() as connection:
                yield connection
            return
        if self._kept is None:
            self._kept = self._writer.connect()
        try:
            yield self._kept
        finally:
            left = Transaction(self._kept, pyformat=False)
            if left.is_open():  # a commit that failed may have undone nothing (sqlite.org/lang_transaction.html)
                left.change("ROLLBACK")

    @contextmanager
    def read(self) -> Generator[Transaction]:
        """A transaction that only looks."""
        if self.is_sqlite:
            with self._reading() as transaction:
                yield transaction
            return
        with self._noticing(), self._reader.connect() as connection, connection.begin():
            yield Transaction(connection, pyformat=True)

    @contextmanager
    def _reading(self) -> Generator[Transaction]:
        """The same on a connection that is kept: a pool and its events cost more than most of what is read."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._reader.connect()
        transaction = Transaction(connection, pyformat=False)
        try:
            transaction.change("BEGIN")
            yield transaction
        except BaseException:
            connection.close()  # rolls back
            raise
        connection.rollback()
        if transaction.is_open():
            transaction.change("ROLLBACK")
        if len(self._idle) < _MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Give all connections back."""
        if self._copier is not None:
            self._copier.close()
        while self._idle:
            self._idle.pop().close()
        with self._turn:
            if self._kept is not None:
                self._kept.close()
                self._kept = None
        self._reader.dispose()
        self._writer.dispose()


def _canonical(url: str) -> URL:
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise ValueError("SQLite needs a file: name one, as in sqlite:////var/lib/runyard/runyard.db")
        return parsed.set(drivername="sqlite+pysqlite")
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    raise ValueError(f"{backend!r} databases are not known here: use sqlite:///FILE or postgresql://HOST/NAME")


def _engine(url: URL, **options: Any) -> sa.Engine:
    """An engine whose errors do not show what was to be written: some of it is not for logs."""
    return sa.create_engine(url, hide_parameters=True, **options)


def _sqlite_engines(url: URL) -> tuple[sa.Engine, sa.Engine]:
    path = Path(str(url.database))
    _make_file(path)
    arguments = {"timeout": BUSY_TIMEOUT_S, "isolation_level": None}
    writer = _engine(url, connect_args=arguments, pool_size=1, max_overflow=0)
    reader = _engine(url, connect_args=arguments, pool_size=_MOST_IDLE, max_overflow=-1)

    def prepare(driver: Any, _record: object) -> None:
        # FULL: a commit is on the disk before it returns (sqlite.org/pragma.html#pragma_synchronous)
        _turn_to_wal(driver)
        for pragma in (
            "synchronous=FULL",
            "foreign_keys=ON",
            "journal_size_limit=67108864",
            f"wal_autocheckpoint={MOST}",
        ):
            driver.execute(f"PRAGMA {pragma}").close()

    def keep_little(driver: Any, _record: object) -> None:
        driver.execute(f"PRAGMA cache_size=-{_READERS_KIB}").close()

    for engine in (writer, reader):
        event.listen(engine, "connect", prepare)
    event.listen(reader, "connect", keep_little)
    event.listen(writer, "begin", _sayer("BEGIN IMMEDIATE"))  # a reader says its BEGIN itself
    return writer, reader


def _connect_to_copy(url: URL) -> sqlite3.Connection:
    """A connection that copies the log. FULL: the copies are on the disk before the log begins again."""
    driver = sqlite3.connect(str(url.database), timeout=BUSY_TIMEOUT_S, isolation_level=None)
    driver.execute("PRAGMA synchronous=FULL").close()
    return driver


def _make_file(path: Path) -> None:
    """Make the database's file, for its owner alone; what SQLite puts beside it takes the same mode.

    It is never opened here: closing it would drop the locks that other connections of this process hold on it
    (sqlite.org/howtocorrupt.html, 2.2).
    """
    with contextlib.suppress(FileExistsError):
        os.mknod(path, 0o600 | stat.S_IFREG)


def _turn_to_wal(driver: Any) -> None:
    """Keep changes in a write-ahead log. SQLite does not wait its busy time for this one change: we do."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            driver.execute("PRAGMA journal_mode=WAL").close()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def session_name(holder: str) -> str:
    """How PostgreSQL names the sessions of a server."""
    return f"runyard {holder}".strip()


def _postgres_engines(url: URL, holder: str, epoch: int | None) -> tuple[sa.Engine, sa.Engine]:
    know_postgres()
    alive = {"application_name": session_name(holder), **{k: v for k, v in _ALIVE.items() if k not in url.query}}
    writer = _engine(
        url, isolation_level="READ COMMITTED", pool_pre_ping=True, pool_size=1, max_overflow=0, connect_args=alive
    )
    reader = _engine(
        url, isolation_level="REPEATABLE READ", pool_pre_ping=True, pool_size=8, max_overflow=24, connect_args=alive
    )

    def prepare(driver: Any, _record: object) -> None:
        # After a large submission the planner's statistics are old: it would gather and sort the whole queue rather
        # than read its first runs from the index that has them in order. Whatever we ask has its index.
        for plan in ("seqscan", "bitmapscan", "sort"):
            driver.execute(f"SET enable_{plan} = off")
        driver.commit()

    for engine in (writer, reader):
        event.listen(engine, "connect", prepare)
    # Under the lock a READ COMMITTED writer sees all that the writers before it have committed.
    event.listen(writer, "begin", _sayer(f"SELECT pg_advisory_xact_lock({WRITER_KEY})"))
    if epoch is not None:
        event.listen(writer, "begin", _fence(epoch))
    return writer, reader


def _fence(epoch: int) -> Any:
    """Refuse to write once another server leads. Who takes the lease holds the writers' lock meanwhile."""

    def check(connection: sa.Connection) -> None:
        now = connection.exec_driver_sql("SELECT epoch FROM leases WHERE name = 'leader'").scalar()
        if now != epoch:
            raise NotLeading("Another server leads on this database now: nothing was written. Try again.")

    return check


def _sayer(sql: str) -> Any:
    def say(connection: sa.Connection) -> None:
        connection.exec_driver_sql(sql)

    return say
