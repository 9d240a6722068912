"""Sending files and parts of them, receiving bodies."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from typing import BinaryIO

from fastapi.responses import Response, StreamingResponse
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from runyard.core.errors import RunyardError
from runyard.ports.embedded import EmbeddedStore, StoredObject

_log = logging.getLogger(__name__)

CHUNK = 128 * 1024
"""At most so much is in memory for a reader who does not read, twice."""
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class Closing(StreamingResponse):
    """A stream whose source is closed when it ends, however it ends: a client that goes away leaves nothing open.

    Where the source breaks off with one of our own errors, its head has been sent, and no problem document can follow:
    the connection ends before the body does, which tells the client that it has not all of it.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes] | Iterator[bytes],
        status_code: int = 200,
        headers: dict[str, str] | None = None,
        media_type: str | None = None,
        file: BinaryIO | None = None,
    ) -> None:
        super().__init__(chunks, status_code, headers, media_type)
        self._chunks = chunks
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification, version 3."""
        try:
            await super().__call__(scope, receive, send)
        except RunyardError as error:
            _log.warning("%s %s broke off: %s", scope["method"], scope["path"], error.message)
        finally:
            if isinstance(self._chunks, AsyncGenerator):
                await self._chunks.aclose()
            else:
                close = getattr(self._chunks, "close", None)
                with suppress(ValueError):  # a generator that a thread is still in ends there
                    await asyncio.to_thread(close or bool)
            if self._file is not None:
                self._file.close()


async def read_file(file: BinaryIO, begin: int, length: int) -> AsyncGenerator[bytes]:
    """``length`` bytes from ``begin``."""
    await asyncio.to_thread(file.seek, begin)
    while length > 0:
        chunk = await asyncio.to_thread(file.read, min(CHUNK, length))
        if not chunk:
            return
        length -= len(chunk)
        yield chunk


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and length that a ``Range`` header asks for; None for the whole (RFC 9110, section 14).

    Raises ``ValueError`` for one that cannot be met. What is no range, and lists of ranges, are answered with the
    whole.
    """
    found = _RANGE.fullmatch(header or "")
    if found is None or found[0] == "bytes=-":
        return None
    if not found[1]:
        length = min(int(found[2]), size)
        if length == 0:
            raise ValueError(header)
        return size - length, length
    begin = int(found[1])
    if found[2] and int(found[2]) < begin:
        return None
    end = min(int(found[2]), size - 1) if found[2] else size - 1
    if begin >= size:
        raise ValueError(header)
    return begin, end - begin + 1


def matches(header: str | None, etag: str) -> bool:
    """Whether an ``If-Match`` header, when there is one, lets through what has this etag."""
    return header is None or any(each.strip().strip('"') in (etag, "*") for each in header.split(","))


def send(request: Request, file: BinaryIO, found: StoredObject) -> Response:
    """An object, or the part of it that is asked for; 412 when ``If-Match`` names another etag."""
    headers = {"ETag": f'"{found.etag}"', "Accept-Ranges": "bytes"}
    if not matches(request.headers.get("if-match"), found.etag):
        file.close()
        return Response(status_code=412, headers=headers)
    try:
        part = byte_range(request.headers.get("range"), found.size)
    except ValueError:
        file.close()
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{found.size}"})
    begin, length = part if part is not None else (0, found.size)
    headers["Content-Length"] = str(length)
    if part is not None:
        headers["Content-Range"] = f"bytes {begin}-{begin + length - 1}/{found.size}"
    status = 206 if part is not None else 200
    return Closing(read_file(file, begin, length), status, headers, "application/octet-stream", file)


async def receive(request: Request, store: EmbeddedStore, account: str, bucket: str, key: str) -> StoredObject:
    """Write the request's body as one object."""
    writer = await asyncio.to_thread(store.put, account, bucket, key)
    declared = request.headers.get("content-length")
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            await asyncio.to_thread(writer.write, chunk)
        if declared is not None and int(declared) != size:
            raise RunyardError(f"{size} of {declared} bytes arrived: send the object again.", code="invalid_request")
        return await asyncio.to_thread(writer.commit)
    finally:
        await asyncio.to_thread(writer.abort)
