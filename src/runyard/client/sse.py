"""Server-sent events: bytes in, events out (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SentEvent:
    """One event. ``id``: the last id seen so far, to resume after; ``name``: ``message`` unless the server named it."""

    name: str
    data: str
    id: str | None


class EventParser:
    """Takes the bytes of an event stream in pieces of any size. ``last_id`` and ``retry_ms`` are what it said last."""

    def __init__(self, last_id: str | None = None) -> None:
        self.last_id = last_id
        self.retry_ms: int | None = None
        self._tail = b""
        self._name = ""
        self._data: list[str] = []
        self._first = True

    def feed(self, chunk: bytes) -> list[SentEvent]:
        """The events that ``chunk`` completes."""
        # A CR at the very end may be half of a CRLF: it waits for the next piece.
        text = self._tail + chunk
        held = text.endswith(b"\r")
        lines = (text[:-1] if held else text).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._tail = lines.pop() + (b"\r" if held else b"")
        events: list[SentEvent] = []
        for line in lines:
            found = self._line(line.decode("utf-8", "replace"))
            if found is not None:
                events.append(found)
        return events

    def _line(self, line: str) -> SentEvent | None:
        if self._first:
            line, self._first = line.removeprefix("\ufeff"), False
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self.last_id = value
        elif name == "retry" and value.isdigit():
            self.retry_ms = int(value)
        return None

    def _dispatch(self) -> SentEvent | None:
        name, lines = self._name, self._data
        self._name, self._data = "", []
        return SentEvent(name or "message", "\n".join(lines), self.last_id) if lines else None
