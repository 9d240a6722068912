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
JSON_BODY: Final = 32 * MIB
LOG_BODY: Final = MIB
RANGES_BODY: Final = 8 * MIB
_STREAMED = re.compile(r"/api/v1/(definitions|data|node/data)/")
_RANGES = "/api/v1/node/ranges"
_LOG = ("/api/v1/node/logs/", "/api/v1/node/metrics/")

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
    return LOG_BODY if path.startswith(_LOG) else JSON_BODY


class BodyLimit:
    """Refuses bodies that are held in memory and too large for it, before they are read or while they are."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

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

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise HTTPException(413, sentence)
            return message

        await self._app(scope, counted, send)


def moment_ms(text: str | None, what: str) -> int | None:
    """The time that an ISO 8601 text names, in ms; None for none. Raises :class:`Refused`."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise Refused(f"`{what}` is an ISO 8601 time, not {text!r}.", code="invalid_request") from None
