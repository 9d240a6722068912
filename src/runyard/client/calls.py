"""What the groups of calls share: a transport, JSON in and out, lists page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from runyard.client.decode import Json, as_object, children, text_or_none
from runyard.client.transport import Body, Query, Request, Transport

PAGE = 1000
"""The most items that the service puts on a page."""

UPLOAD_LIMIT = 600.0
"""Seconds until an upload must be answered after its last byte: the service stores and hashes it first."""

Progress = Callable[[int, int], None]
"""Told (bytes done, bytes in all) while something is sent or fetched."""


class Calls:
    """A group of calls over one transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _get(self, path: str, query: Query | None = None) -> Json:
        return as_object(self._transport.call(Request("GET", path, query or {})).json())

    def _send(
        self,
        method: str,
        path: str,
        document: Mapping[str, object] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = False,
    ) -> Json:
        body = None if document is None else Body.of_json(document)
        answer = self._transport.call(Request(method, path, {}, headers or {}, body, repeatable))
        return as_object(answer.json()) if answer.body else {}

    def _pages(self, path: str, query: Query, limit: int | None = None) -> Iterator[Json]:
        """The items of a list, at most ``limit`` of them, page after page as they are asked for."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(left, PAGE)
            page = self._get(path, {**query, "limit": size, "cursor": cursor})
            items = children(page, "items")[:size]
            yield from items
            cursor = text_or_none(page, "next")
            left = None if left is None else left - len(items)
            if cursor is None:
                return


class Watched:
    """A reader that tells how far it was read; stands in for the file it reads."""

    def __init__(self, reader: BinaryIO, size: int, progress: Progress) -> None:
        self._reader = reader
        self._size = size
        self._done = 0
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        """Read and tell."""
        chunk = self._reader.read(size)
        self._done += len(chunk)
        self._progress(self._done, self._size)
        return chunk

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
