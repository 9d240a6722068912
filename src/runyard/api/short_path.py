"""The short way to the end-points that nodes call most: no routing, no dependencies, one hop to a thread.

It is taken where nothing can be refused before the body is read: the token is one that the doorkeeper knows as a
node's, and the length is declared and allowed. Whatever else comes goes the long way, which has the same functions
behind it and all the refusals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runyard.api import node, node_objects, node_ranges
from runyard.api.context import Context
from runyard.api.limits import body_limit
from runyard.api.problems import of_error, unexpected
from runyard.core.errors import RunyardError

Answer = Callable[[Context, str, bytes], bytes]
"""Of the context, the node's id and the body: JSON. Raises :class:`RunyardError`."""

_HOT: Final[Mapping[str, Answer]] = {
    "/api/v1/node/facts": node.facts_told,
    "/api/v1/node/ranges": node_ranges.ranges_sent,
    "/api/v1/node/objects": node_objects.objects_sent,
}


async def taken(context: Context, scope: Scope, receive: Receive, send: Send) -> bool:
    """Answer a request if it may go the short way; False, and nothing is read or sent, when it may not."""
    answer = _HOT.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
    node_id = _node_of(context, scope) if answer is not None else None
    if answer is None or node_id is None:
        return False
    body = await _body(receive)
    if body is None:
        return True  # whoever asked is gone
    try:
        text = await asyncio.get_running_loop().run_in_executor(None, answer, context, node_id, body)
        response = Response(text, media_type="application/json")
    except RunyardError as error:
        response = of_error(error)
    except Exception as error:
        response = unexpected(scope["method"], scope["path"], error)
    await response(scope, receive, send)
    return True


def _node_of(context: Context, scope: Scope) -> str | None:
    """The node that asks, where that is known without asking the store and its body is of an allowed length."""
    token = length = b""
    for name, value in scope["headers"]:
        if name == b"authorization":
            token = value
        elif name == b"content-length":
            length = value
    limit = body_limit("POST", scope["path"])
    if not length.isdigit() or len(length) > 18 or limit is None or int(length) > limit:
        return None
    return context.doorkeeper.node(token.decode("latin-1"), context.world.clock.now_ms())


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None when the connection broke off before."""
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
