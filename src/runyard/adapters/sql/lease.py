"""Which of several servers on one PostgreSQL leads: one row with an epoch, renewed by whoever holds it.

Times are the database's own, so the servers' clocks do not matter. Who takes the lease ends the sessions of the one
before it (a server that hangs may hold a lock) and raises the epoch under the writers' lock; every transaction that
writes compares the epoch under the same lock, so nothing is written by a server that leads no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg

from runyard.adapters.sql.database import WRITER_KEY, session_name

CHANNEL: Final = "runyard_leader"
_NOW: LiteralString = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_LOOK: LiteralString = f"SELECT holder, url, epoch, until_ms - {_NOW} FROM leases WHERE name = 'leader'"
_TAKE: LiteralString = (
    f"UPDATE leases SET holder = %s, url = %s, epoch = epoch + 1, until_ms = {_NOW} + %s "
    f"WHERE name = 'leader' AND epoch = %s AND (until_ms <= {_NOW} OR holder LIKE %s) RETURNING epoch"
)
_RENEW: LiteralString = (
    f"UPDATE leases SET until_ms = {_NOW} + %s WHERE name = 'leader' AND holder = %s AND epoch = %s RETURNING epoch"
)
_END: LiteralString = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s AND pid <> pg_backend_pid()"
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

    def _connection(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._kept is None or self._kept.closed or self._kept.broken:
            name = f"runyard lease {self.holder}"
            self._kept = psycopg.connect(
                self._url, autocommit=True, connect_timeout=5, application_name=name, tcp_user_timeout=5000
            )
            self._kept.execute(f"LISTEN {CHANNEL}")
        return self._kept

    def take(self) -> int | Leader:
        """Take the lease if nobody has it: the epoch. Otherwise who leads."""
        connection = self._connection()
        connection.execute(
            "INSERT INTO leases (name, holder, url, epoch, until_ms) VALUES ('leader', '', '', 0, 0) "
            "ON CONFLICT (name) DO NOTHING"
        )
        row = connection.execute(_LOOK).fetchone()
        assert row is not None, "it was put there just now"
        holder, url, epoch, left_ms = row
        place = self.holder.partition(" ")[0]
        if left_ms > 0 and holder.partition(" ")[0] != place:
            return Leader(url, left_ms / 1000)
        connection.execute(_END, (session_name(holder),))
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (WRITER_KEY,))
            taken = connection.execute(
                _TAKE, (self.holder, self._address, self._lasts_ms, epoch, f"{place} %")
            ).fetchone()
        if taken is None:
            return Leader("", 0.05)  # another one was faster
        connection.execute(f"NOTIFY {CHANNEL}")
        return int(taken[0])

    def wait(self, seconds: float) -> None:
        """Wait until the lease changes hands, or for so long."""
        for _ in self._connection().notifies(timeout=max(0.01, seconds), stop_after=1):
            return

    def renew(self, epoch: int) -> bool:
        """Hold the lease for its time from now on; False: it is somebody else's."""
        return self._connection().execute(_RENEW, (self._lasts_ms, self.holder, epoch)).fetchone() is not None

    def release(self, epoch: int) -> None:
        """Let go of the lease, so that another server goes on at once."""
        if self._connection().execute(_RENEW, (-1, self.holder, epoch)).fetchone() is not None:
            self._connection().execute(f"NOTIFY {CHANNEL}")

    def close(self) -> None:
        """Close the connection."""
        if self._kept is not None:
            self._kept.close()
