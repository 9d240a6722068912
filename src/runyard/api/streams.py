"""Server-sent events: their text, and the streams of events and logs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace

from runyard.api.runs import event_item
from runyard.core.characters import whole_characters
from runyard.core.run import FINAL, Run, Waiting
from runyard.engine import queries
from runyard.engine.bell import EVENTS, log_topic, stage_topic
from runyard.engine.world import World
from runyard.ports.logs import LogKey

_CHUNK = 64 * 1024
"""At most so much is in memory for a reader who does not read, a few times over."""
_FRAME = 256 * 1024
"""The same of bytes that are sent as they are."""
QUIET_S = 15.0
"""How long a stream says nothing at most; and how long a log whose attempt is over is waited for in vain."""
TOGETHER_S = 0.02
"""Events that come less than this after others are told together."""
BUSY_S = 0.05
"""The same where there are ``MANY`` at once."""
MANY = 6
PAGE = 500
"""Events that are read at once."""
BEHIND_S = 0.005
"""After a whole page there is more, of before, and nothing to bring together: others have a turn."""
LAST_S = 5.0
"""The same for a learner whose log has no known end, once its attempt is over."""
PHASE_MS = 2000
"""An environment that is built has many short phases: one is told of every so often."""
MAIN = "training-log"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def sse(event: str, data: Mapping[str, object], id: str | None = None) -> bytes:
    """One server-sent event (WHATWG HTML, section 9.2)."""
    head = f"id: {id}\n" if id is not None else ""
    return f"{head}event: {event}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


class SentEvents:
    """A log as server-sent events."""

    media_type = "text/event-stream"
    most = _CHUNK
    quiet = b": quiet\n\n"

    @staticmethod
    def log(attempt: int, offset: int, chunk: bytes) -> bytes:
        """Bytes of an attempt's log."""
        data = {"attempt": attempt, "offset": offset, "text": chunk.decode("utf-8", "replace")}
        return sse("log", data, f"{attempt}:{offset + len(chunk)}")

    @staticmethod
    def tell(name: str, data: Mapping[str, object]) -> bytes:
        """A change of state, or the end."""
        return sse(name, data)


class Frames:
    """A log as its own bytes, in frames: ``log ATTEMPT OFFSET LENGTH`` and so many bytes, or ``state JSON``, ``end
    JSON``, ``quiet``; each heading ends in a line feed."""

    media_type = "application/vnd.runyard.log"
    most = _FRAME
    quiet = b"quiet\n"

    @staticmethod
    def log(attempt: int, offset: int, chunk: bytes) -> bytes:
        """Bytes of an attempt's log."""
        return b"log %d %d %d\n%b" % (attempt, offset, len(chunk), chunk)

    @staticmethod
    def tell(name: str, data: Mapping[str, object]) -> bytes:
        """A change of state, or the end."""
        return f"{name} {json.dumps(data, separators=(',', ':'))}\n".encode()


Form = type[SentEvents] | type[Frames]


async def events(world: World, account_id: str, after: int) -> AsyncGenerator[bytes]:
    """The account's events after a sequence number, as they happen, without end."""
    with world.bell.listen(EVENTS) as ear:
        while True:
            count, after, text = await asyncio.to_thread(_page, world, account_id, after)
            if count:
                yield text
                await asyncio.sleep(_pause_s(count))
            elif not await ear.wait(QUIET_S):
                yield b": quiet\n\n"


def _pause_s(count: int) -> float:
    if count >= PAGE:
        return BEHIND_S
    return BUSY_S if count >= MANY else TOGETHER_S


def _page(world: World, account_id: str, after: int) -> tuple[int, int, bytes]:
    """The next events after a number: how many, the last one's number, their text."""
    page = world.store.events(after, PAGE, account_id=account_id)
    text = b"".join(sse(each.event.kind.value, event_item(each), str(each.seq)) for each in page)
    return len(page), page[-1].seq if page else after, text


def over(run: Run, attempt: int) -> bool:
    """Whether an attempt is of the past: a later one has begun, or the run is final. Its last bytes may be on their
    way all the same."""
    return attempt < len(run.attempts) or run.state_name in FINAL


def log_complete(run: Run, key: LogKey, offset: int) -> bool:
    """Whether it is certain that nothing will be added to a stream beyond ``offset``.

    The final size is known of the first learner's training log alone, and only where the program's end was seen. Of
    the other learners' all is here once the run is final: a node tells that a run is stored after it has shipped them.
    """
    if key.stream == MAIN and key.learner > 1:
        return run.state_name in FINAL
    if key.stream == MAIN and 1 <= key.attempt <= len(run.attempts):
        ended = run.attempts[key.attempt - 1]
        if ended.ending is None:
            return False
        if ended.log_bytes is not None:
            return offset >= ended.log_bytes
    return over(run, key.attempt)


async def log_bytes(
    world: World, key: LogKey, offset: int, *, follow: bool, quiet_s: float = QUIET_S
) -> AsyncGenerator[bytes]:
    """Raw bytes of a stream from an offset to its end; followed until the attempt's log is complete, or says nothing
    for a while although the attempt is over."""
    rung = True
    with world.bell.listen(log_topic(key.run_id)) as ear:
        while True:
            run = await asyncio.to_thread(world.store.run, key.run_id)
            while chunk := await asyncio.to_thread(world.logs.read, key, offset, _CHUNK):
                offset, rung = offset + len(chunk), True
                yield chunk
            if not follow or run is None or log_complete(run, key, offset) or (not rung and over(run, key.attempt)):
                return
            rung = await ear.wait(_patience(run, key, quiet_s))


def _patience(run: Run, key: LogKey, quiet_s: float) -> float:
    return min(quiet_s, LAST_S) if key.learner > 1 and over(run, key.attempt) else quiet_s


class LogEvents:
    """The log of a run as events: chunks with their offsets, state changes in between, on into later attempts."""

    def __init__(
        self, world: World, key: LogKey, offset: int, form: Form = SentEvents, *, quiet_s: float = QUIET_S
    ) -> None:
        self._world = world
        self._form = form
        self._key = key
        self._offset = offset
        self._shown: tuple[str, int, str] | None = None
        self._told_ms = 0
        self._quiet_s = quiet_s
        self._rung = True

    async def stream(self) -> AsyncGenerator[bytes]:
        """Events until the run is final and its log complete."""
        first = await asyncio.to_thread(self._world.store.run, self._key.run_id)
        topics = [log_topic(self._key.run_id), *([stage_topic(first.spec_id)] if first is not None else [])]
        with self._world.bell.listen(*topics) as ear:
            while True:
                run = await asyncio.to_thread(self._world.store.run, self._key.run_id)
                if run is None:
                    yield self._form.tell("end", {"state": "deleted"})
                    return
                async for event in self._news(run):
                    yield event
                if self._complete(run):
                    if self._key.attempt >= len(run.attempts):
                        view = await asyncio.to_thread(queries.show, self._world, run)
                        yield self._form.tell(
                            "end", {"state": view.state, "reason": view.reason, "sentence": view.sentence}
                        )
                        return
                    self._key = replace(self._key, attempt=self._key.attempt + 1)
                    self._offset, self._rung = 0, True
                    continue
                self._rung = await ear.wait(_patience(run, self._key, self._quiet_s))
                if not self._rung:
                    yield self._form.quiet

    def _is_news(self, shown: tuple[str, int, str]) -> bool:
        """Whether a state is to be told: one whose phase alone is new not so soon after the last."""
        if self._shown is None or shown[:2] != self._shown[:2]:
            return True
        return shown != self._shown and self._world.clock.now_ms() - self._told_ms >= PHASE_MS

    def _phase(self, run: Run) -> str:
        """What is being done to make a waiting run ready, beside fetching its data; empty when nothing is."""
        progress = self._world.ready.progress(run.spec_id) if isinstance(run.state, Waiting) else None
        return progress[2] if progress is not None and run.ready_on is None else ""

    def _complete(self, run: Run) -> bool:
        """Whether this attempt's log has been shown; of one that is over and says nothing more, what there is."""
        if not over(run, self._key.attempt):
            return False
        return not self._rung or log_complete(run, self._key, self._offset)

    async def _news(self, run: Run) -> AsyncGenerator[bytes]:
        shown = (run.state_name.value, len(run.attempts), self._phase(run))
        form = self._form
        while chunk := await asyncio.to_thread(self._world.logs.read, self._key, self._offset, form.most):
            given_up = not self._rung and over(run, self._key.attempt)
            complete = given_up or log_complete(run, self._key, self._offset + len(chunk))
            whole = len(chunk) if complete else whole_characters(chunk)
            if whole == 0:
                break
            begin, self._offset = self._offset, self._offset + whole
            yield form.log(self._key.attempt, begin, chunk[:whole])
        if self._is_news(shown):
            self._shown, self._told_ms = shown, self._world.clock.now_ms()
            view = await asyncio.to_thread(queries.show, self._world, run)
            yield self._form.tell("state", {"state": view.state, "reason": view.reason, "sentence": view.sentence})
