"""Model definitions: uploaded once, by content."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from runyard.api.asking import audited
from runyard.api.context import Context, Ctx, Submits, Who
from runyard.api.files import Closing, read_file
from runyard.core.errors import NotFound, RunyardError
from runyard.engine import room
from runyard.engine.leases import of_definition
from runyard.ports.store import Definition

router = APIRouter(prefix="/definitions", tags=["model definitions"])


@router.head("/{sha256}", response_class=Response)
def known(sha256: str, context: Ctx, who: Who) -> Response:
    """Whether this account has uploaded it."""
    context.world.leases.hold(of_definition(sha256))
    there = context.world.store.definition(who.account_id, sha256) is not None
    if not there or context.definitions.size(sha256) is None:
        raise NotFound(f"There is no model definition {sha256[:100]}.")
    return Response()


_ZIP: Final = {
    "required": True,
    "description": "The zip.",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}


@router.put("/{sha256}", status_code=201, response_class=Response, openapi_extra={"requestBody": _ZIP})
@audited("definitions.put", waits=False)
async def upload(
    sha256: str, request: Request, context: Ctx, who: Submits, mentions_config: bool | None = None
) -> Response:
    """Upload a zip under its hash."""
    room.refuse_when_full(context.world)
    await asyncio.to_thread(context.world.leases.hold, of_definition(sha256))
    try:
        size = await context.definitions.put(sha256, request.stream(), context.definition_limit)
    except ValueError as error:
        raise RunyardError(f"The upload was not kept: {error}.", code="invalid_request") from None
    except OverflowError as error:
        raise RunyardError(f"The upload was not kept: {error}. Leave data out of it.", code="too_large") from None
    definition = Definition(who.account_id, sha256, size, context.world.clock.now_ms(), mentions_config)
    await asyncio.to_thread(context.world.store.add_definition, definition)
    return Response(status_code=201)


@router.get("/{sha256}", response_class=StreamingResponse)
def download(sha256: str, context: Ctx, who: Who) -> StreamingResponse:
    """The zip."""
    if context.world.store.definition(who.account_id, sha256) is None:
        raise NotFound(f"There is no model definition {sha256}.")
    return zip_of(context, sha256)


def zip_of(context: Context, sha256: str) -> StreamingResponse:
    """A kept zip as a response."""
    size = context.definitions.size(sha256)
    file = context.definitions.open(sha256) if size is not None else None
    if file is None or size is None:
        raise NotFound(f"There is no model definition {sha256}.")
    headers = {"Content-Length": str(size)}
    return Closing(read_file(file, 0, size), headers=headers, media_type="application/zip", file=file)
