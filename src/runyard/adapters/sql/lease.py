"""Which of several servers on one PostgreSQL leads: one row with an epoch, renewed by whoever holds it.

Times are the database's own, so the servers' clocks do not matter. Who takes the lease ends the sessions of the one
before it (a server that hangs may hold a lock) and raises the epoch under the writers' lock; every transaction that
writes compares the epoch under the same lock, so nothing is written by a server that leads no more.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg

from runyard.adapters.sql.database import WRITER_KEY, session_name

LEADER_KEY: Final = 0x52594C45
"""The session lock of who leads (an advisory lock; the writers' one is another)."""
_OWED_S: Final = 0.1
_NOW: LiteralString = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_LOOK: LiteralString = (
    f"SELECT holder, url, epoch, until_ms - {_NOW}, EXISTS (SELECT 1 FROM pg_stat_activity WHERE "
    "application_name = left('runyard lease ' || holder, 63) AND pid <> pg_backend_pid()) "
    "FROM leases WHERE name = 'leader'"
)
_TAKE: LiteralString = (
    f"UPDATE leases SET holder = %s, url = %s, epoch = epoch + 1, until_ms = {_NOW} + %s "
    f"WHERE name = 'leader' AND epoch = %s AND (until_ms <= {_NOW} OR holder LIKE %s OR %s) RETURNING epoch"
)
_RENEW: LiteralString = (
    f"UPDATE leases SET until_ms = {_NOW} + %s WHERE name = 'leader' AND holder = %s AND epoch = %s RETURNING epoch"
)
_END: LiteralString = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name IN (%s, %s) "
    "AND pid <> pg_backend_pid()"
)


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads: its address, and for how many seconds yet unless it renews its lease."""

    url: str
    left_s: float


class Lease:
    """One server's hand on the lease. A connection of its own, used by one thread at a time.

    The first word of ``holder`` names its installation, of which one server runs at a time: it takes the lease of the
    one before it without waiting.

    Every method raises ``psycopg.Error`` when the database does not answer, and connects anew when called again.
    """

    def __init__(self, url: str, holder: str, address: str, lasts_s: float) -> None:
        self._url = "postgresql:" + url.partition(":")[2]
        self.holder = holder
        self._address = address
        self._lasts_ms = round(lasts_s * 1000)
        self._kept: psycopg.Connection[tuple[Any, ...]] | None = None
        self._locked = self._owed = False

    def _connection(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._kept is None or self._kept.closed or self._kept.broken:
            self._locked = False
            self._kept = psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=5,
                application_name=lease_name(self.holder),
                tcp_user_timeout=5000,
            )
        return self._kept

    @property
    def renewed_s(self) -> float:
        """How often who leads renews it."""
        return self._lasts_ms / 4000

    def ask(self) -> None:
        """Ask the database for nothing. Raises ``psycopg.Error`` while it does not answer."""
        self._connection().execute("SELECT 1")

    def take(self) -> int | Leader:
        """Take the lease if nobody has it, or who has it is gone: the epoch. Otherwise who leads."""
        connection = self._connection()
        connection.execute(
            "INSERT INTO leases (name, holder, url, epoch, until_ms) VALUES ('leader', '', '', 0, 0) "
            "ON CONFLICT (name) DO NOTHING"
        )
        row = connection.execute(_LOOK).fetchone()
        assert row is not None, "it was put there just now"
        holder, url, epoch, left_ms, lives = row
        place = self.holder.partition(" ")[0]
        if left_ms > 0 and lives and holder.partition(" ")[0] != place:
            self._owed = self._locked  # who leads lives, and is to have it
            self._unlock()
            return Leader(url, left_ms / 1000)
        connection.execute(_END, (session_name(holder), lease_name(holder)))
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (WRITER_KEY,))
            taken = connection.execute(
                _TAKE, (self.holder, self._address, self._lasts_ms, epoch, f"{place} %", not lives)
            ).fetchone()
        if taken is None:
            self._unlock()
            return Leader("", 0.05)  # another one was faster
        self._lock()
        return int(taken[0])

    def wait(self, seconds: float) -> None:
        """Wait until who leads is gone or lets go, or for so long."""
        connection = self._connection()
        if self._owed:
            time.sleep(min(_OWED_S, max(0.0, seconds)))
            self._owed = False
        try:
            connection.execute(
                "SELECT set_config('statement_timeout', %s, false)", (str(max(10, round(seconds * 1000))),)
            )
            connection.execute("SELECT pg_advisory_lock(%s)", (LEADER_KEY,))
            self._locked = True
        except psycopg.errors.QueryCanceled:
            return
        finally:
            if not connection.closed:
                connection.execute("SET statement_timeout = 0")

    def _lock(self) -> None:
        """Have the lock, if the one before has let go of it by now; :meth:`renew` tries again."""
        if not self._locked:
            row = self._connection().execute("SELECT pg_try_advisory_lock(%s)", (LEADER_KEY,)).fetchone()
            self._locked = row is not None and bool(row[0])

    def _unlock(self) -> None:
        if self._locked:
            self._connection().execute("SELECT pg_advisory_unlock(%s)", (LEADER_KEY,))
            self._locked = False

    def renew(self, epoch: int) -> bool:
        """Hold the lease for its time from now on; False: it is somebody else's."""
        if not self._extended(epoch, self._lasts_ms):
            return False
        self._lock()
        return True

    def release(self, epoch: int) -> None:
        """Let go of the lease, so that another server goes on at once."""
        self._extended(epoch, -1)
        self._unlock()

    def _extended(self, epoch: int, lasts_ms: int) -> bool:
        """Whether the lease was this server's to say how long it lasts. A session that was ended is begun anew, once:
        whoever takes the lease ends it."""
        for ended in (True, False):
            try:
                row = self._connection().execute(_RENEW, (lasts_ms, self.holder, epoch)).fetchone()
            except psycopg.OperationalError:
                if not ended:
                    raise
            else:
                return row is not None
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close the connection."""
        if self._kept is not None:
            self._kept.close()


def lease_name(holder: str) -> str:
    """What the session is called in which a server holds its lease (63 bytes at most, as the database cuts names)."""
    return f"runyard lease {holder}"[:63]
