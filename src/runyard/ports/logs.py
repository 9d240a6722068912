"""Where log bytes are kept while runs run: files addressed by byte offsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LogKey:
    """One stream of one learner of one attempt. Streams: ``training-log``, ``load-data``, ``load-model``.

    Attempt 0 holds what happened before the first attempt (staging).
    """

    run_id: str
    attempt: int
    learner: int = 1
    stream: str = "training-log"


class LogStore(Protocol):
    """Append-only streams with exactly-once appends by offset arithmetic."""

    def append(self, key: LogKey, offset: int, chunk: bytes, at_ms: int) -> int:
        """Write ``chunk`` at ``offset`` and return the stream's size after it.

        What is already there is skipped; a gap (``offset`` beyond the size) writes nothing. Either way the answer is
        the size, from which the sender goes on.
        """
        ...

    def size(self, key: LogKey) -> int:
        """Bytes in a stream; 0 when there is none."""
        ...

    def read(self, key: LogKey, offset: int, limit: int) -> bytes:
        """Up to ``limit`` bytes from ``offset``; empty at the end."""
        ...

    def offset_at(self, key: LogKey, at_ms: int) -> int:
        """The first offset whose bytes came at ``at_ms`` or later (within about 50 ms)."""
        ...

    def delete(self, run_id: str) -> None:
        """Remove all streams of a run."""
        ...
