"""Server-sent events: their text, and the streams of events and logs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping

from runyard.api.runs import event_item
from runyard.core.run import FINAL, Run
from runyard.engine import queries
from runyard.engine.bell import EVENTS, log_topic
from runyard.engine.world import World
from runyard.ports.logs import LogKey

_CHUNK = 256 * 1024
_QUIET_S = 15.0
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def sse(event: str, data: Mapping[str, object], id: str | None = None) -> bytes:
    """One server-sent event (WHATWG HTML, section 9.2)."""
    head = f"id: {id}\n" if id is not None else ""
    return f"{head}event: {event}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


async def events(world: World, account_id: str, after: int) -> AsyncIterator[bytes]:
    """The account's events after a sequence number, as they happen, without end."""
    with world.bell.listen(EVENTS) as ear:
        while True:
            page = await asyncio.to_thread(world.store.events, after, 500, account_id=account_id)
            for recorded in page:
                after = recorded.seq
                yield sse(recorded.event.kind.value, event_item(recorded), str(recorded.seq))
            if not page and not await ear.wait(_QUIET_S):
                yield b": quiet\n\n"


def whole_characters(chunk: bytes) -> int:
    """How many bytes of ``chunk`` are complete UTF-8 characters (a cut one at the end is left for later)."""
    for back in range(1, min(4, len(chunk)) + 1):
        byte = chunk[-back]
        if byte < 0x80:
            break
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(chunk) - back if back < needed else len(chunk)
    return len(chunk)


def log_complete(run: Run, attempt: int, offset: int) -> bool:
    """Whether nothing will be added to an attempt's log beyond ``offset``."""
    if attempt > len(run.attempts):
        return run.state_name in FINAL
    ended = run.attempts[attempt - 1]
    if ended.ending is None:
        return False
    return offset >= ended.log_bytes if ended.log_bytes is not None else run.state_name in FINAL


async def log_bytes(world: World, key: LogKey, offset: int, *, follow: bool) -> AsyncIterator[bytes]:
    """Raw bytes of a stream from an offset to its end; followed until the attempt's log is complete."""
    with world.bell.listen(log_topic(key.run_id)) as ear:
        while True:
            chunk = await asyncio.to_thread(world.logs.read, key, offset, _CHUNK)
            if chunk:
                offset += len(chunk)
                yield chunk
                continue
            run = await asyncio.to_thread(world.store.run, key.run_id)
            if not follow or run is None or log_complete(run, key.attempt, offset) or key.stream != "training-log":
                return
            await ear.wait(_QUIET_S)


class LogEvents:
    """The log of a run as events: chunks with their offsets, state changes in between, on into later attempts."""

    def __init__(self, world: World, key: LogKey, offset: int) -> None:
        self._world = world
        self._key = key
        self._offset = offset
        self._shown: tuple[str, int] | None = None

    async def stream(self) -> AsyncIterator[bytes]:
        """Events until the run is final and its log complete."""
        with self._world.bell.listen(log_topic(self._key.run_id)) as ear:
            while True:
                run = await asyncio.to_thread(self._world.store.run, self._key.run_id)
                if run is None:
                    yield sse("end", {"state": "deleted"})
                    return
                async for event in self._news(run):
                    yield event
                if self._over(run):
                    view = await asyncio.to_thread(queries.show, self._world, run)
                    yield sse("end", {"state": view.state, "reason": view.reason, "sentence": view.sentence})
                    return
                if not self._next_attempt(run) and not await ear.wait(_QUIET_S):
                    yield b": quiet\n\n"

    async def _news(self, run: Run) -> AsyncIterator[bytes]:
        shown = (run.state_name.value, len(run.attempts))
        while chunk := await asyncio.to_thread(self._world.logs.read, self._key, self._offset, _CHUNK):
            complete = log_complete(run, self._key.attempt, self._offset + len(chunk))
            whole = len(chunk) if complete else whole_characters(chunk)
            if whole == 0:
                break
            begin, self._offset = self._offset, self._offset + whole
            text = chunk[:whole].decode("utf-8", "replace")
            data = {"attempt": self._key.attempt, "offset": begin, "text": text}
            yield sse("log", data, f"{self._key.attempt}:{self._offset}")
        if shown != self._shown:
            self._shown = shown
            view = await asyncio.to_thread(queries.show, self._world, run)
            yield sse("state", {"state": view.state, "reason": view.reason, "sentence": view.sentence})

    def _over(self, run: Run) -> bool:
        return (
            run.state_name in FINAL
            and self._key.attempt >= len(run.attempts)
            and log_complete(run, self._key.attempt, self._offset)
        )

    def _next_attempt(self, run: Run) -> bool:
        attempt = self._key.attempt
        if attempt >= len(run.attempts) or not log_complete(run, attempt, self._offset):
            return False
        self._key = LogKey(run.id, attempt + 1, self._key.learner, self._key.stream)
        self._offset = 0
        return True
