"""The end-point by which nodes store many small objects of the embedded store at once."""

from __future__ import annotations

import asyncio

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from runyard.api.context import Context, Ctx, NodeWho, node_of
from runyard.core.errors import RunyardError
from runyard.ports.embedded import EmbeddedStore, SmallObject
from runyard.wire import objects

router = APIRouter(prefix="/node", include_in_schema=False, dependencies=[Depends(node_of)])


@router.post("/objects")
async def put_all(request: Request, context: Ctx, who: NodeWho) -> Response:
    """Write objects; each is answered for itself (:mod:`runyard.wire.objects`)."""
    kept = await asyncio.to_thread(objects_sent, context, who.node_id or "", await request.body())
    return Response(kept, media_type="application/json")


def objects_sent(context: Context, _node_id: str, body: bytes) -> bytes:
    """Write the objects of a body; answers a JSON array, as :func:`put_all` does."""
    if len(body) > objects.LARGEST_BODY:
        raise RunyardError(f"Send at most {objects.LARGEST_BODY} bytes at once.", code="too_large")
    return msgspec.json.encode(_put_all(context.embedded, body))


def _put_all(store: EmbeddedStore, body: bytes) -> list[dict[str, int | str]]:
    try:
        found = [SmallObject(each.account, each.bucket, each.key, content) for each, content in objects.decode(body)]
    except objects.Malformed as error:
        raise RunyardError(str(error), code="invalid_request") from None
    return [
        {"error": kept} if isinstance(kept, str) else {"size": kept.size, "etag": kept.etag}
        for kept in store.put_all(found)
    ]
