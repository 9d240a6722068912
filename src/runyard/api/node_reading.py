"""Many small objects of the embedded store in one answer, for nodes that stage data."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from runyard.api.context import Ctx, node_of
from runyard.core.errors import RunyardError
from runyard.ports.embedded import EmbeddedStore
from runyard.wire.orders import Item

router = APIRouter(prefix="/node", include_in_schema=False, dependencies=[Depends(node_of)])

MISSING, CHANGED = -1, -2
_MOST_BYTES = 16 << 20
"""Of one answer, which is in memory as a whole."""
_MOST_OBJECTS = 1000

_decoder = msgspec.json.Decoder(tuple[str, str, Annotated[tuple[Item, ...], msgspec.Meta(max_length=_MOST_OBJECTS)]])


@router.post("/objects/read", response_class=Response)
async def read_objects(request: Request, context: Ctx) -> Response:
    """Objects as they were listed: the body is a JSON array ``[account, bucket, [[key, size, etag], ...]]``.

    The answer's first line is a JSON array with the size of each, or -1 where there is no such object and -2 where it
    is another than was listed; then come the bytes of all that are as listed, in that order.
    """
    try:
        account, bucket, items = _decoder.decode(await request.body())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunyardError(f"This is no list of objects: {error}.", code="invalid_request") from None
    if sum(item.size for item in items) > _MOST_BYTES:
        raise RunyardError(f"More than {_MOST_BYTES} bytes were asked for at once.", code="invalid_request")
    body = await asyncio.to_thread(_read_all, context.embedded, account, bucket, items)
    return Response(body, media_type="application/octet-stream")


def _read_all(store: EmbeddedStore, account: str, bucket: str, items: tuple[Item, ...]) -> bytes:
    found = [_read(store, account, bucket, item) for item in items]
    sizes = [each if isinstance(each, int) else len(each) for each in found]
    return b"".join((msgspec.json.encode(sizes), b"\n", *(each for each in found if isinstance(each, bytes))))


def _read(store: EmbeddedStore, account: str, bucket: str, item: Item) -> bytes | int:
    """An object's bytes, or why there are none."""
    found = store.open(account, bucket, item.key)
    if found is None:
        return MISSING
    file, told = found
    with file:
        if told.size != item.size or item.etag.strip('"') not in ("", told.etag):
            return CHANGED
        content = file.read(item.size)
    return content if len(content) == item.size else CHANGED
