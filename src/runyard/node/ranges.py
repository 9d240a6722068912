"""Small ranges of many streams, or a piece of a large one, in one request: ``POST /api/v1/node/ranges``.

The body is a line with a JSON array of ``[run, attempt, learner, stream, offset, length]``, then the bytes of all
ranges, one behind the other; the answer is an array of the sizes that the server has then, -1 where it has no place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from runyard.node.link import Link, Refused

SMALL = 64 << 10
"""Bytes of a range that goes together with others."""
MOST = 4 << 20
"""Bytes in one request, about."""
UNKNOWN = (404, 405)
"""What a server answers that takes streams one by one alone."""


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of a stream from an offset. ``name``: ``metrics`` for points."""

    run: str
    attempt: int
    learner: int
    name: str
    offset: int
    content: bytes


class Ranges:
    """Sends them, for as long as the server takes them."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.are_taken = True
        """Whether the server is not known to take streams one by one alone."""

    def send(self, ranges: Sequence[Range]) -> list[int] | None:
        """One request; None where the server does not know it. Raises as :meth:`Link.ask` does."""
        head = [(each.run, each.attempt, each.learner, each.name, each.offset, len(each.content)) for each in ranges]
        body = b"".join([msgspec.json.encode(head), b"\n", *(each.content for each in ranges)])
        try:
            answer = self._link.ask("POST", "/ranges", body, "application/octet-stream")
        except Refused as error:
            if error.status not in UNKNOWN:
                raise
            self.are_taken = False
            return None
        try:
            sizes = msgspec.json.decode(answer, type=list[int])
        except msgspec.DecodeError:
            return None
        return sizes if len(sizes) == len(ranges) else None
