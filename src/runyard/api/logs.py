"""Logs: bytes by offset, or server-sent events that follow."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from runyard.api.context import Ctx, Who, guarded
from runyard.api.files import Closing
from runyard.api.limits import Offset, number_of
from runyard.api.runs import event_item
from runyard.api.streams import HEADERS, MAIN, Frames, LogEvents, SentEvents, events, log_bytes
from runyard.core.errors import Refused
from runyard.core.run import Run
from runyard.engine import queries
from runyard.engine.world import World
from runyard.ports.logs import LogKey

router = APIRouter(tags=["logs and events"])
_BLOCK = 64 * 1024
STREAMS = (MAIN, "load-data", "load-model")


def tail_offset(world: World, key: LogKey, lines: int) -> int:
    """Where the last ``lines`` (1 or more) lines of a stream begin; a last line without its end counts as one."""
    position = end = world.logs.size(key)
    left = lines
    while position > 0:
        begin = max(0, position - _BLOCK)
        block = world.logs.read(key, begin, position - begin)
        if position == end and not block.endswith(b"\n"):
            left -= 1
        count = block.count(b"\n")
        if count <= left:
            left -= count
            position = begin
            continue
        place = len(block)
        for _ in range(left + 1):
            place = block.rfind(b"\n", 0, place)
        return begin + place + 1
    return 0


def _since_ms(text: str, now: int) -> int:
    try:
        return now - int(float(text) * 1000)
    except (ValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise Refused(f"`since` is seconds ago or an ISO 8601 time, not {text!r}.", code="invalid_request") from None


def _key(world: World, run: Run, attempt: int | None, learner: int, stream: str) -> LogKey:
    if stream not in STREAMS:
        raise Refused(f"There is no log stream {stream!r}: there are {', '.join(STREAMS)}.", code="invalid_request")
    learners = world.specs.get(run.spec_id).spec.request.learners
    if learner > learners:
        there = "one learner" if learners == 1 else f"{learners} learners, numbered from 1"
        raise Refused(f"{run.id} has {there}: there is no learner {learner}.", code="invalid_request")
    number = attempt if attempt is not None else len(run.attempts)
    if stream == MAIN:
        number = max(1, number)  # a program's log begins with its first attempt
    return LogKey(run.id, number, learner, stream)


def _begin(world: World, key: LogKey, offset: int, tail: int | None, since: str | None) -> int:
    if tail is not None:
        return tail_offset(world, key, tail) if tail else world.logs.size(key)
    return world.logs.offset_at(key, _since_ms(since, world.clock.now_ms())) if since is not None else offset


@router.get("/training-runs/{run}/logs", response_class=StreamingResponse)
async def logs(
    run: str,
    context: Ctx,
    who: Who,
    attempt: Annotated[int | None, Query(ge=0, le=1_000_000)] = None,
    learner: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    stream: str = "training-log",
    offset: Offset = 0,
    tail: Annotated[int | None, Query(ge=0, le=1_000_000_000)] = None,
    since: str | None = None,
    follow: bool = False,
    accept: Annotated[str, Header()] = "text/plain",
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """A run's log. Of the latest attempt unless one is named; events begin with the first when followed whole."""
    world = context.world
    found = await asyncio.to_thread(queries.resolve, world, who.account_id, run)
    form = Frames if Frames.media_type in accept else SentEvents if SentEvents.media_type in accept else None
    if form is not None:
        whole = attempt is None and tail is None and since is None
        first = 1 if found.attempts else 0
        key = await asyncio.to_thread(_key, world, found, first if whole else attempt, learner, stream)
        begin = await asyncio.to_thread(_begin, world, key, offset, tail, since)
        if last_event_id is not None:
            key, begin = _resumed(found, key, last_event_id)
        return Closing(
            guarded(context, LogEvents(world, key, begin, form).stream()), headers=HEADERS, media_type=form.media_type
        )
    key = await asyncio.to_thread(_key, world, found, attempt, learner, stream)
    begin = await asyncio.to_thread(_begin, world, key, offset, tail, since)
    body = log_bytes(world, key, begin, follow=follow)
    return Closing(
        guarded(context, body), headers=HEADERS | {"Runyard-Log-Offset": str(begin)}, media_type="text/plain"
    )


def _resumed(run: Run, key: LogKey, last_event_id: str) -> tuple[LogKey, int]:
    words = last_event_id.partition(":")
    attempt, offset = (number_of(words[at], "Last-Event-ID is not one of this stream's.") for at in (0, 2))
    return LogKey(run.id, max(attempt, 1) if key.stream == MAIN else attempt, key.learner, key.stream), offset


@router.get("/events", response_model=None)
async def account_events(
    context: Ctx,
    who: Who,
    after: Offset | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    accept: Annotated[str, Header()] = "application/json",
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse | dict[str, object]:
    """The account's events: a page of JSON, or a stream that resumes by sequence number (from now on by default)."""
    world = context.world
    begin = after if after is not None else 0
    if "text/event-stream" in accept:
        if last_event_id is not None:
            begin = number_of(last_event_id, "Last-Event-ID is not one of this stream's.")
        elif after is None:
            begin = await asyncio.to_thread(world.store.last_seq)
        return Closing(
            guarded(context, events(world, who.account_id, begin)), headers=HEADERS, media_type="text/event-stream"
        )
    page = await asyncio.to_thread(world.store.events, begin, limit, account_id=who.account_id)
    return {"items": [event_item(each) for each in page], "next": str(page[-1].seq) if len(page) == limit else None}
