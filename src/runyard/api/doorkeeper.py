"""Who a token speaks for, remembered for a second; open streams, which end when their token does."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from runyard.core.account import Principal, Scope
from runyard.core.errors import RunyardError
from runyard.ports.store import Store

_REMEMBERED = 1000
_REMEMBERED_MS = 1000
_NOTED_MS = 60_000
"""The last use of a token is noted so often."""
_log = logging.getLogger(__name__)


def token_digest(token: str) -> str:
    """How a token is kept: SHA-256, hexadecimal. Tokens are random, so no slow hash is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


class Doorkeeper:
    """Remembers for a second who a token speaks for: nodes ask many times a second.

    A token that this server revokes is forgotten at once; one that another server on the same store revokes is good for
    a second more.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, Principal]] = {}
        self._epoch = 0
        self._noted: dict[str, int] = {}
        self._due: dict[str, int] = {}
        self._lock = threading.Lock()
        self._streams: set[Stream] = set()

    async def who(self, store: Store, token: str, now_ms: int) -> Principal | None:
        """Who a token speaks for, None for nobody."""
        return await self.who_has(store, token_digest(token), now_ms)

    async def who_has(self, store: Store, digest: str, now_ms: int) -> Principal | None:
        """The same by the token's digest."""
        until, principal = self._known.get(digest, (0, None))
        if now_ms < until:
            return principal
        epoch = self._epoch
        found = await asyncio.to_thread(store.principal, digest, now_ms)
        if found is None:
            return None
        if epoch == self._epoch:  # else somebody was revoked while the store was asked: perhaps this one
            _drop_old(self._known, now_ms)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[digest] = (now_ms + _REMEMBERED_MS, found)
        self._note(store, found.token_id, now_ms)
        return found

    def _note(self, store: Store, token_id: str, now_ms: int) -> None:
        if now_ms - self._noted.get(token_id, 0) < _NOTED_MS:
            return
        for old in [old for old, at in self._noted.items() if now_ms - at >= _NOTED_MS]:
            del self._noted[old]
        if len(self._noted) >= _REMEMBERED:
            self._noted.clear()
        self._noted[token_id] = now_ms
        with self._lock:
            first = not self._due
            self._due[token_id] = now_ms
        if first:
            asyncio.get_running_loop().run_in_executor(None, self._write, store)

    def _write(self, store: Store) -> None:
        with self._lock:
            due, self._due = self._due, {}
        try:
            store.note_used(due)
        except Exception:
            _log.exception("the last use of %d tokens could not be noted", len(due))

    def node(self, authorization: str, now_ms: int) -> str | None:
        """The id of the node that a header speaks for; None where that is not in memory, or it speaks for no node."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        until, principal = self._known.get(token_digest(token.strip()), (0, None))
        if principal is None or now_ms >= until or principal.scope is not Scope.node:
            return None
        return principal.node_id

    def forget(self) -> None:
        """A token was revoked, or a member's role has changed: ask the store again for all, and look at every open
        stream. From any thread."""
        self._epoch += 1
        self._known.clear()
        for stream in tuple(self._streams):
            stream.doubt()

    def watched(self, stream: Stream) -> None:
        """A stream has begun."""
        self._streams.add(stream)

    def unwatched(self, stream: Stream) -> None:
        """A stream has ended."""
        self._streams.discard(stream)


def _drop_old(known: dict[str, tuple[int, Principal]], now_ms: int) -> None:
    """Forget who is to be asked for again in any case; others may forget all meanwhile."""
    for digest in [digest for digest, (until, _) in list(known.items()) if until <= now_ms]:
        known.pop(digest, None)


class Stream:
    """An open stream of bytes that ends with its token: at once where this server revokes it, else before the next
    bytes that are more than a second later."""

    def __init__(self, doorkeeper: Doorkeeper, store: Store, digest: str, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._doorkeeper = doorkeeper
        self._store = store
        self._digest = digest
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None
        self._waiting = False
        self._over = False
        self._looks: set[asyncio.Task[None]] = set()

    def doubt(self) -> None:
        """Ask whether the token is still good. From any thread."""
        with suppress(RuntimeError):  # the loop is closed: so is the stream
            self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        task = self._loop.create_task(self._ask())
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)

    async def _ask(self) -> None:
        if await self._good(self._now_ms()) is False and not self._over:
            self._over = True
            if self._waiting and self._task is not None:
                self._task.cancel()

    async def _good(self, now_ms: int) -> bool | None:
        """Whether the token is good; None where the store is away: the next bytes ask again."""
        try:
            return await self._doorkeeper.who_has(self._store, self._digest, now_ms) is not None
        except (RunyardError, OSError):
            return None

    async def of(self, chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """The same bytes for as long as the token is good."""
        self._task = asyncio.current_task()
        self._doorkeeper.watched(self)
        asked = self._now_ms()
        try:
            while True:
                chunk = await self._next(chunks)
                now = self._now_ms()
                if chunk is not None and now - asked > _REMEMBERED_MS:
                    good = await self._good(now)
                    if good is False:
                        return
                    asked = asked if good is None else now
                if chunk is None or self._over:
                    return
                yield chunk
        finally:
            self._doorkeeper.unwatched(self)
            await chunks.aclose()

    async def _next(self, chunks: AsyncGenerator[bytes]) -> bytes | None:
        """The next bytes; None at the end, or when the token ended meanwhile."""
        self._waiting = True
        try:
            return await anext(chunks, None)
        except asyncio.CancelledError:
            if self._over and self._task is not None and self._task.uncancel() == 0:
                return None
            raise
        finally:
            self._waiting = False
