"""Two servers on one database: one leads, the other passes on to it whatever it is asked, and takes its place.

What leads is a whole server, as if it were alone; so everything that holds for one server holds for two. A server that
loses the lease ends its process at once: nothing that it remembers is of use any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psycopg

from runyard.adapters.sql.lease import Leader, Lease
from runyard.core.errors import RunyardError, StoreAway

LOST: Final = 75
"""The exit code of a server that has lost the lease: it is started again, and stands by."""
_CHUNK: Final = 1 << 16
_PATIENCE_S: Final = 10.0
"""How long a request waits for somebody to lead."""
_AWAY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: 131\r\n\r\n"
    b'{"type": "about:blank", "title": "Away", "status": 503, "code": "no_leader", '
    b'"detail": "No server leads at the moment: try again."}'
)
_log = logging.getLogger(__name__)


def new_holder(home: Path) -> str:
    """A name of this process that no other has; it begins with that of its installation (:class:`Lease`)."""
    place = hashlib.sha256(f"{socket.gethostname()} {home}".encode()).hexdigest()[:12]
    return f"{place} {secrets.token_hex(4)}"


class Door:
    """Passes connections on to the server that leads, byte for byte, in both directions."""

    def __init__(self) -> None:
        self._leader: tuple[str, int] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def lead_to(self, url: str) -> None:
        """Pass new connections on to this address; none when empty."""
        parts = urlsplit(url)
        self._leader = (parts.hostname or "127.0.0.1", parts.port or 80) if url else None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):  # cut: nobody waits for this task
                await self._pass_on(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await self._connected()
        if there is None:
            writer.write(_AWAY)
            await writer.drain()
            return
        answers, questions = there
        forth = asyncio.create_task(_copy(reader, questions))
        try:
            await _copy(answers, writer)
        finally:
            forth.cancel()
            questions.close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            if self._leader is not None:
                with contextlib.suppress(OSError):
                    return await asyncio.open_connection(*self._leader)
            await asyncio.sleep(0.05)  # until the next one leads, which may be this very process
        return None

    def cut(self) -> None:
        """End every connection that is passed on."""
        for task in list(self._tasks):
            task.cancel()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


async def follow(listening: socket.socket, lease: Lease, *, shared: bool) -> int:
    """Stand by until the lease can be taken; returns its epoch. The socket listens on.

    Raises ``RunyardError`` where another server leads and its files are not ``shared``: this one could not go on.
    """
    if not shared:
        return await asyncio.to_thread(_alone, lease)
    door = Door()
    server = await asyncio.start_server(door.serve, sock=listening.dup(), limit=_CHUNK)
    try:
        while True:
            found = await _look(lease, door)
            if found is not None:
                return found
    finally:
        server.close()
        door.cut()


def _alone(lease: Lease) -> int:
    try:
        found = lease.take()
        if isinstance(found, Leader):  # it may have ended just now, on another machine
            lease.wait(found.left_s + 0.1)
            found = lease.take()
    except psycopg.Error as error:
        raise StoreAway(f"The database does not answer: {str(error).partition(chr(10))[0]}") from None
    if isinstance(found, Leader):
        raise RunyardError(
            f"Another server ({found.url}) leads on this database: stop it, or set shared_folder in both, so that "
            "either can go on with the other's files.",
            code="no_leader",
        )
    return found


async def _look(lease: Lease, door: Door) -> int | None:
    """Take the lease, or let the door lead to who has it and wait until it may be free: None."""
    try:
        found = await asyncio.to_thread(lease.take)
        if not isinstance(found, Leader):
            return found
        door.lead_to(found.url)
        await asyncio.to_thread(lease.wait, found.left_s)
    except psycopg.Error as error:
        _log.warning("the database does not answer: %s", str(error).partition("\n")[0])
        await database_is_back(lease)
    return None


async def database_is_back(lease: Lease) -> None:
    """Wait for the database, and then a moment more: who led before may have lost nothing but its sessions, and says so
    as soon as it can."""
    while True:
        await asyncio.sleep(0.2)
        with contextlib.suppress(psycopg.Error):
            await asyncio.to_thread(lease.ask)
            break
    await asyncio.sleep(lease.renewed_s + 0.2)


class Keeper:
    """Renews the lease from a thread of its own until it is let go of, or lost: then this process ends."""

    def __init__(self, lease: Lease, epoch: int, lasts_s: float) -> None:
        self._lease, self._epoch, self._lasts_s = lease, epoch, lasts_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def let_go(self) -> None:
        """A server that ends lets the other one go on at once."""
        self._ended.set()
        self._thread.join(self._lasts_s)
        if self._thread.is_alive():
            return  # the database does not answer: the lease runs out
        with contextlib.suppress(psycopg.Error):  # it may be the database's end as well; then, too
            self._lease.release(self._epoch)
            self._lease.close()

    def _renew(self) -> None:
        away = False
        while not self._ended.wait(self._lease.renewed_s):
            try:
                held, away = self._lease.renew(self._epoch), False
            except psycopg.Error as error:  # it is away: nobody else can take the lease meanwhile either
                if not away:
                    _log.warning("the lease could not be renewed: %s", str(error).partition("\n")[0])
                held = away = True
            if not held:
                _log.error("another server leads now: this one ends, and stands by when it is started again")
                os._exit(LOST)
