"""The protocol of a connection, with patience that ends: half requests, slow bodies, too many connections.

Uvicorn waits for the rest of a request without end, and answers what is no HTTP in plain text.
"""

from __future__ import annotations

import asyncio
import json
import resource
from typing import Any, Final, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from runyard.api.problems import document

HEAD_S: Final = 20.0
"""From the first byte of a request to the last of its headers."""
BODY_S: Final = 60.0
"""How long a body that is awaited may bring nothing."""
_FILES_KEPT: Final = 256
"""Open files that are not for connections: the store, logs, uploads."""
_MOST_FILES: Final = 65_536
_NO_HTTP: Final = "This is no HTTP request that can be read: correct its first line, its headers or its length."
_LATE: Final = "The request did not come within the time that there is for it: send it again, without a pause."
_FULL: Final = "The server has as many connections as it may: close some, or try again in a moment."


def most_connections() -> int:
    """How many connections there may be at once: the process's limit of open files is raised as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    files = _MOST_FILES if soft == resource.RLIM_INFINITY else min(soft, _MOST_FILES)
    return max(16, files - _FILES_KEPT)


class Patient(H11Protocol):
    """Uvicorn's HTTP/1.1 with deadlines, and with problem documents for what never gets as far as the application."""

    head_s = HEAD_S
    body_s = BODY_S
    most = 1 << 30

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Cut at once what is one too many."""
        super().connection_made(transport)
        self._waiting: asyncio.TimerHandle | None = None
        self._heard = self.loop.time()
        self._in_body = False
        if len(self.connections) > self.most:
            self._refuse(503, "busy", _FULL)
            return
        self._await_rest()  # a connection that says nothing at all is half a request, too

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._await_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Look, after each piece, what is still awaited."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        state = self.conn.their_state
        in_body = state is h11.SEND_BODY
        if in_body or (state is h11.IDLE and self.conn.trailing_data[0]):
            if in_body or self._in_body:
                self._heard = self.loop.time()
            if self._waiting is None or in_body != self._in_body:
                self._await_nothing()
                self._in_body = in_body
                self._heard = self.loop.time()
                self._await_rest()
        else:
            self._in_body = False
            self._await_nothing()

    def _await_rest(self) -> None:
        patience = self.body_s if self._in_body else self.head_s
        self._waiting = self.loop.call_at(self._heard + patience, self._look)

    def _await_nothing(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _look(self) -> None:
        """The time is over: unless it was the application that did not read, the connection is cut."""
        self._waiting = None
        if self.transport.is_closing():
            return
        if self._in_body and (self.flow.read_paused or self._heard + self.body_s > self.loop.time()):
            if self.flow.read_paused:
                self._heard = self.loop.time()
            self._await_rest()
            return
        self._refuse(408, "too_slow", _LATE)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's own name
        """What is no HTTP: a problem document, and the end of the connection."""
        self._refuse(400, "invalid_request", _NO_HTTP)

    def _refuse(self, status: int, code: str, sentence: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(document(status, code, sentence)).encode()
            headers = [
                (b"content-type", b"application/problem+json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            events: tuple[Any, ...] = (
                h11.Response(status_code=status, headers=headers, reason=b""),
                h11.Data(data=body),
                h11.EndOfMessage(),
            )
            for event in events:
                self.transport.write(cast("bytes | None", self.conn.send(event)) or b"")
        self.transport.close()
