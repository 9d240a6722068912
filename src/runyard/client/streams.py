"""Streams of events that outlive their connections: cut off, they come back by themselves where they stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException

from runyard.client.decode import Json, as_object, children, integer, text, text_or_none
from runyard.client.errors import Broken, TimedOut, Unreachable
from runyard.client.frames import LOG_FRAMES, FrameParser, SentLog
from runyard.client.metric_records import NewPoints, Series
from runyard.client.records import Event, LogChunk, StateChange
from runyard.client.sse import EventParser, SentEvent
from runyard.client.transport import Query, Request, Transport

EVENT_STREAM = "text/event-stream"
_LOG_STREAM = f"{LOG_FRAMES}, {EVENT_STREAM}"
"""What is asked for of a log; a service of before knows only the second."""
_PIECE = 1 << 18
"""Bytes that are taken at once where there is much."""
STARTS = frozenset({"tail", "since", "offset", "after"})
"""Where a stream begins; a resumed one begins where it was."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to bear silence and absence, in seconds. ``idle``: a silent connection is taken for dead; ``longest``:
    the longest pause between tries (they double from ``first``); ``absence``: give up after so long without a word
    (``first_absence``: when there never was one)."""

    idle: float = 45.0
    first: float = 0.1
    longest: float = 5.0
    absence: float = 600.0
    first_absence: float = 3.0


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The connection was lost and is there again; nothing was missed."""


def sent_events(
    transport: Transport,
    path: str,
    query: Query,
    patience: Patience,
    deadline: float | None = None,
) -> Iterator[SentEvent | Reconnected]:
    """The events of a stream that never ends by itself, resumed by ``Last-Event-ID``. ``deadline`` is a time of
    ``time.monotonic``; :class:`TimedOut` is raised when it has passed, :class:`Unreachable` when patience has."""
    for sent in _sent(transport, path, query, patience, deadline):
        if not isinstance(sent, SentLog):  # none was asked for
            yield sent


def _sent(
    transport: Transport,
    path: str,
    query: Query,
    patience: Patience,
    deadline: float | None = None,
    accept: str = EVENT_STREAM,
) -> Iterator[SentEvent | SentLog | Reconnected]:
    """The same for whatever is accepted."""
    last_id: str | None = None
    pause = patience.first
    opened = False
    heard = time.monotonic()
    while True:
        retry_ms: int | None = None
        try:
            with transport.stream(_opening(path, query, last_id, _silence(patience, deadline), accept)) as stream:
                heard = time.monotonic()
                framed = stream.headers.get("content-type", "").startswith(LOG_FRAMES)
                parser = FrameParser(last_id) if framed else EventParser(last_id)
                if opened:
                    yield Reconnected()
                opened = True
                for chunk in stream.chunks(_PIECE, lambda: _silence(patience, deadline)):
                    heard, pause = time.monotonic(), patience.first
                    for event in parser.feed(chunk):
                        last_id = event.id
                        yield event
                    retry_ms = parser.retry_ms
        except (Unreachable, Broken, OSError, HTTPException) as error:
            absent = time.monotonic() - heard
            if absent > (patience.absence if opened else patience.first_absence):
                raise Unreachable(f"The service has not been heard of for {absent:.0f} s ({error}).") from error
        _sleep(max(pause, (retry_ms or 0) / 1000), deadline)
        pause = min(pause * 2, patience.longest)


def _opening(path: str, query: Query, last_id: str | None, silence: float, accept: str) -> Request:
    headers = {"Accept": accept}
    if last_id is not None:
        headers["Last-Event-ID"] = last_id
        query = {key: value for key, value in query.items() if key not in STARTS}
    return Request("GET", path, query, headers, read_limit=silence)


def _silence(patience: Patience, deadline: float | None) -> float:
    if deadline is None:
        return patience.idle
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimedOut("The time is up.")
    return min(patience.idle, left)


def _sleep(pause: float, deadline: float | None) -> None:
    left = pause if deadline is None else min(pause, deadline - time.monotonic())
    if left > 0:
        time.sleep(left)


def _document(event: SentEvent) -> Json:
    try:
        return as_object(json.loads(event.data))
    except ValueError:
        return {}


def account_events(
    transport: Transport, after: int | None, patience: Patience, deadline: float | None = None
) -> Iterator[Event | Reconnected]:
    """The account's events with a sequence number above ``after``, as they happen, each once."""
    for sent in sent_events(transport, "/events", {"after": after}, patience, deadline):
        if isinstance(sent, Reconnected):
            yield sent
            continue
        raw = dict(_document(sent))
        raw.setdefault("kind", sent.name)
        event = Event.of(raw)
        if after is None or event.seq > after:
            after = event.seq
            yield event


def metric_events(
    transport: Transport, path: str, run: str, query: Query, patience: Patience
) -> Iterator[NewPoints | StateChange]:
    """A run's points as they come and its changes of state, until it is final."""
    last: StateChange | None = None
    for sent in sent_events(transport, path, query, patience):
        if isinstance(sent, Reconnected):
            continue
        raw = _document(sent)
        if sent.name == "points":
            yield NewPoints(run, tuple(Series.of(each) for each in children(raw, "series")))
        elif sent.name in ("state", "end"):
            change = StateChange(run, text(raw, "state"), text_or_none(raw, "reason"), text(raw, "sentence"))
            if last is None or (change.state, change.reason) != (last.state, last.reason):
                last = change
                yield change
        if sent.name == "end":
            return


def log_events(
    transport: Transport, path: str, run: str, query: Query, patience: Patience
) -> Iterator[LogChunk | StateChange]:
    """A run's log and its changes of state until the log is complete, over all attempts that follow."""
    seen = (0, -1)
    last: StateChange | None = None
    for sent in _sent(transport, path, query, patience, accept=_LOG_STREAM):
        if isinstance(sent, Reconnected):
            continue
        if isinstance(sent, SentLog):
            if (sent.attempt, sent.offset) > seen:
                seen = (sent.attempt, sent.offset)
                yield LogChunk(run, sent.attempt, sent.offset, sent.data)
            continue
        raw = _document(sent)
        if sent.name == "end":
            return
        if sent.name == "state":
            change = StateChange(run, text(raw, "state"), text_or_none(raw, "reason"), text(raw, "sentence"))
            if last is None or _seen(change) != _seen(last):
                last = change
                yield change
        elif sent.name == "log":
            data = text(raw, "text").encode("utf-8", "replace")
            chunk = LogChunk(run, integer(raw, "attempt"), integer(raw, "offset"), data)
            if (chunk.attempt, chunk.offset) > seen:
                seen = (chunk.attempt, chunk.offset)
                yield chunk


def _seen(change: StateChange) -> tuple[str, str | None, str]:
    """What a follower is told of once: of a wait, what it waits for, too."""
    return change.state, change.reason, change.sentence if change.state == "waiting" else ""
