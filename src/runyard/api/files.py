"""Sending files and parts of them, receiving bodies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import BinaryIO

from fastapi.responses import Response, StreamingResponse
from starlette.requests import Request

from runyard.core.errors import RunyardError
from runyard.ports.embedded import EmbeddedStore, StoredObject

CHUNK = 1024 * 1024


async def read_file(file: BinaryIO, begin: int, length: int) -> AsyncIterator[bytes]:
    """``length`` bytes from ``begin``; closes the file."""
    try:
        await asyncio.to_thread(file.seek, begin)
        while length > 0:
            chunk = await asyncio.to_thread(file.read, min(CHUNK, length))
            if not chunk:
                return
            length -= len(chunk)
            yield chunk
    finally:
        file.close()


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and length that a ``Range`` header asks for; None for the whole (RFC 9110, section 14).

    Raises ``ValueError`` for one that cannot be met. Lists of ranges are answered with the whole.
    """
    if header is None or not header.startswith("bytes=") or "," in header:
        return None
    first, _, last = header.removeprefix("bytes=").partition("-")
    if not first:
        length = min(int(last), size)
        return size - length, length
    begin = int(first)
    end = min(int(last), size - 1) if last else size - 1
    if begin >= size or end < begin:
        raise ValueError(header)
    return begin, end - begin + 1


def send(request: Request, file: BinaryIO, found: StoredObject) -> Response:
    """An object, or the part of it that is asked for; 412 when ``If-Match`` names another etag."""
    headers = {"ETag": f'"{found.etag}"', "Accept-Ranges": "bytes"}
    wanted = request.headers.get("if-match")
    if wanted is not None and wanted.strip('"') not in (found.etag, "*"):
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
    return StreamingResponse(
        read_file(file, begin, length), status, headers=headers, media_type="application/octet-stream"
    )


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
