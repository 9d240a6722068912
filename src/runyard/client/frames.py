"""A followed log as the service sends it to this client: frames with the log's own bytes, not text in JSON.

``log ATTEMPT OFFSET LENGTH`` and so many bytes; ``state JSON``, ``end JSON`` and ``quiet``; each heading ends in a line
feed. The offset is where the bytes are in that attempt's log; a broken stream goes on behind the last that came.
"""

from __future__ import annotations

from dataclasses import dataclass

from runyard.client.sse import SentEvent
from runyard.core.characters import whole_characters

LOG_FRAMES = "application/vnd.runyard.log"


@dataclass(frozen=True, slots=True)
class SentLog:
    """Bytes of an attempt's log from an offset on, which end between two characters; ``id``: what to resume after."""

    attempt: int
    offset: int
    data: bytes

    @property
    def id(self) -> str:
        """What to resume after."""
        return f"{self.attempt}:{self.offset + len(self.data)}"


class FrameParser:
    """Takes the bytes of a stream in pieces of any size, and hands on a frame's bytes as they come."""

    def __init__(self, last_id: str | None = None) -> None:
        self.last_id = last_id
        self.retry_ms: int | None = None
        self._held = b""
        self._attempt = 0
        self._offset = 0
        self._left = 0

    def feed(self, chunk: bytes) -> list[SentEvent | SentLog]:
        """What ``chunk`` completes."""
        rest = self._held + chunk if self._held else chunk
        found: list[SentEvent | SentLog] = []
        while rest:
            if self._left:
                data, rest = rest[: self._left], rest[self._left :]
                whole = len(data) if len(data) == self._left else whole_characters(data)
                if whole:
                    found.append(self._log(data[:whole]))
                if whole < len(data):
                    rest = data[whole:]
                    break
                continue
            line, end, behind = rest.partition(b"\n")
            if not end:
                break
            rest = behind
            event = self._heading(line.decode("utf-8", "replace"))
            if event is not None:
                found.append(event)
        self._held = rest
        return found

    def _log(self, data: bytes) -> SentLog:
        sent = SentLog(self._attempt, self._offset, data)
        self._offset += len(data)
        self._left -= len(data)
        self.last_id = sent.id
        return sent

    def _heading(self, line: str) -> SentEvent | None:
        name, _, rest = line.partition(" ")
        if name == "log":
            self._attempt, self._offset, self._left = map(int, rest.split(" "))
            return None
        return SentEvent(name, rest, self.last_id) if rest else None
