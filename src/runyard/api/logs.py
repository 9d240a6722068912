"""Logs: bytes by offset, or server-sent events that follow."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from runyard.api.context import Ctx, Who
from runyard.api.runs import event_item
from runyard.api.streams import HEADERS, LogEvents, events, log_bytes
from runyard.core.errors import Refused
from runyard.core.run import Run
from runyard.engine import queries
from runyard.engine.world import World
from runyard.ports.logs import LogKey

router = APIRouter(tags=["logs and events"])
_BLOCK = 64 * 1024
_STREAMS = ("training-log", "load-data", "load-model")


def tail_offset(world: World, key: LogKey, lines: int) -> int:
    """Where the last ``lines`` lines of a stream begin."""
    end = world.logs.size(key)
    position, found, last = end, 0, b""
    while position > 0:
        begin = max(0, position - _BLOCK)
        block = world.logs.read(key, begin, position - begin)
        if position == end:
            last = block[-1:]
        for index in range(len(block) - 1, -1, -1):
            if block[index] == 0x0A:
                found += 1
                if found > lines or (found == lines and last != b"\n"):
                    return begin + index + 1
        position = begin
    return 0


def _since_ms(text: str) -> int:
    try:
        return int(time.time() * 1000 - float(text) * 1000)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(f"`since` is seconds ago or an ISO 8601 time, not {text!r}.", code="invalid_request") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _key(run: Run, attempt: int | None, learner: int, stream: str) -> LogKey:
    if stream not in _STREAMS:
        raise Refused(f"There is no log stream {stream!r}: there are {', '.join(_STREAMS)}.", code="invalid_request")
    number = attempt if attempt is not None else len(run.attempts)
    return LogKey(run.id, number, learner, stream)


def _begin(world: World, key: LogKey, offset: int, tail: int | None, since: str | None) -> int:
    if tail is not None:
        return tail_offset(world, key, tail) if tail else world.logs.size(key)
    return world.logs.offset_at(key, _since_ms(since)) if since is not None else offset


@router.get("/training-runs/{run}/logs", response_class=StreamingResponse)
async def logs(
    run: str,
    context: Ctx,
    who: Who,
    attempt: Annotated[int | None, Query(ge=0)] = None,
    learner: Annotated[int, Query(ge=1)] = 1,
    stream: str = "training-log",
    offset: Annotated[int, Query(ge=0)] = 0,
    tail: Annotated[int | None, Query(ge=0)] = None,
    since: str | None = None,
    follow: bool = False,
    accept: Annotated[str, Header()] = "text/plain",
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """A run's log. Of the latest attempt unless one is named; events begin with the first when followed whole."""
    world = context.world
    found = await asyncio.to_thread(queries.resolve, world, who.account_id, run)
    if "text/event-stream" in accept:
        whole = attempt is None and tail is None and since is None
        key = _key(found, (1 if found.attempts else 0) if whole else attempt, learner, stream)
        begin = await asyncio.to_thread(_begin, world, key, offset, tail, since)
        if last_event_id is not None:
            key, begin = _resumed(found, key, last_event_id)
        if key.attempt == 0 and stream == "training-log":
            key, begin = LogKey(found.id, 1, learner, stream), 0
        return StreamingResponse(LogEvents(world, key, begin).stream(), media_type="text/event-stream", headers=HEADERS)
    key = _key(found, attempt, learner, stream)
    begin = await asyncio.to_thread(_begin, world, key, offset, tail, since)
    body = log_bytes(world, key, begin, follow=follow)
    return StreamingResponse(body, media_type="text/plain", headers=HEADERS | {"Runyard-Log-Offset": str(begin)})


def _resumed(run: Run, key: LogKey, last_event_id: str) -> tuple[LogKey, int]:
    attempt, _, offset = last_event_id.partition(":")
    if not attempt.isdigit() or not offset.isdigit():
        raise Refused("Last-Event-ID is not one of this stream's.", code="invalid_request")
    return LogKey(run.id, int(attempt), key.learner, key.stream), int(offset)


@router.get("/events", response_model=None)
async def account_events(
    context: Ctx,
    who: Who,
    after: Annotated[int | None, Query(ge=0)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    accept: Annotated[str, Header()] = "application/json",
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse | dict[str, object]:
    """The account's events: a page of JSON, or a stream that resumes by sequence number (from now on by default)."""
    world = context.world
    begin = after if after is not None else 0
    if "text/event-stream" in accept:
        if last_event_id is not None and last_event_id.isdigit():
            begin = int(last_event_id)
        elif after is None:
            begin = await asyncio.to_thread(world.store.last_seq)
        return StreamingResponse(events(world, who.account_id, begin), media_type="text/event-stream", headers=HEADERS)
    page = await asyncio.to_thread(world.store.events, begin, limit, account_id=who.account_id)
    return {"items": [event_item(each) for each in page], "next": str(page[-1].seq) if len(page) == limit else None}
