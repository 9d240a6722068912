"""How large and how far: bodies of requests, numbers in addresses."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import Path, Query
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runyard.api.problems import problem
from runyard.core.errors import Refused

MIB: Final = 1024 * 1024
JSON_BODY: Final = MIB
NODE_BODY: Final = 16 * MIB
HELD: Final = 48 * MIB
"""Bytes of unfinished requests of members that are in memory at once: one of the largest always finds room."""
LOG_BODY: Final = MIB
RANGES_BODY: Final = 8 * MIB
_STREAMED = re.compile(r"/api/v1/(definitions|data|node/data)/")
_RANGES = "/api/v1/node/ranges"
_LARGER: Final = {
    "/api/v1/training-runs": 32 * MIB,
    "/api/v1/manifests/check": 32 * MIB,
    "/api/v1/training-runs/cancel": 8 * MIB,
    "/api/v1/manifests/convert": 4 * MIB,
}
"""Of lists with an entry for each of very many runs, and of manifests as JSON."""
_NODES = "/api/v1/node/"
_LOG = ("/api/v1/node/logs/", "/api/v1/node/metrics/")

_BUSY: Final = "The server reads as much at once as its memory allows: try again in a moment."

Offset = Annotated[int, Query(ge=0, le=2**62)]
"""A byte offset or sequence number; what is larger fits in no file and no database."""
Few = Annotated[int, Path(ge=0, le=1_000_000)]
"""The number of an attempt or a learner in a path."""


def number_of(text: str, sentence: str) -> int:
    """A whole number of at most 18 digits. Raises :class:`Refused` with the sentence for anything else."""
    if not re.fullmatch("[0-9]{1,18}", text):
        raise Refused(sentence, code="invalid_request")
    return int(text)


def body_limit(method: str, path: str) -> int | None:
    """Bytes that the body of a request may have. None: it is never held in memory and has a limit of its own."""
    if method == "PUT" and _STREAMED.match(path):
        return None
    if path == _RANGES:
        return RANGES_BODY
    if path.startswith(_LOG):
        return LOG_BODY
    return NODE_BODY if path.startswith(_NODES) else _LARGER.get(path, JSON_BODY)


class BodyLimit:
    """Refuses bodies that are held in memory and too large for it, before they are read or while they are; and what
    would be too much beside the others that are held just now."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification, version 3."""
        limit = body_limit(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if limit is None:
            await self._app(scope, receive, send)
            return
        sentence = f"The body of this request may have {limit} bytes: send less at once."
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or len(declared) > 18 or int(declared) > limit:
            await problem(413, "too_large", sentence)(scope, receive, send)
            return
        seen = 0
        counts = not scope["path"].startswith(_NODES)  # nodes send what has a limit each, and must not wait for members

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            size = len(message.get("body", b""))
            seen += size
            self._held += size if counts else 0
            if seen > limit:
                raise HTTPException(413, sentence)
            if counts and self._held > HELD:
                raise HTTPException(429, _BUSY)
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            self._held -= seen if counts else 0


def moment_ms(text: str | None, what: str) -> int | None:
    """The time that an ISO 8601 text names, in ms; None for none. Raises :class:`Refused`."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise Refused(f"`{what}` is an ISO 8601 time, not {text!r}.", code="invalid_request") from None
