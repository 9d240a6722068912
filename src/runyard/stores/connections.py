"""Kept-alive HTTP connections to the server, one a thread, with failures told as :class:`StoreError`."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import weakref
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast
from urllib.parse import urlsplit

from runyard.stores.errors import StoreError
from runyard.stores.faults import Asked, of_os_error, of_status, unreachable

_TIMEOUT_S = 30.0
_SIP = 1 << 20
_NEVER_RIGHT = (400, 405, 409, 411, 413, 414, 422)
"""Statuses with which the server says that the request itself is at fault; its sentence is passed on."""
FULL = "store_full"
"""Code of a problem that will pass once somebody has made room."""


class Answer:
    """A successful answer whose body has not been read yet."""

    def __init__(self, response: http.client.HTTPResponse, asked: Asked) -> None:
        self._response = response
        self._asked = asked
        self._left = response.length or 0

    def header(self, name: str) -> str:
        """A header, empty when it is missing."""
        return self._response.getheader(name, "")

    @property
    def status(self) -> int:
        """200 or 206."""
        return self._response.status

    def sips(self) -> Iterator[memoryview]:
        """The body in pieces of at most 1 MiB; each is good until the next is asked for. ``unreachable`` when it ends
        too early."""
        buffer = memoryview(bytearray(_SIP))
        while count := self._read_into(buffer):
            yield buffer[:count]

    def read(self) -> bytes:
        """The rest of the body."""
        return b"".join(bytes(sip) for sip in self.sips())

    def _read_into(self, buffer: memoryview) -> int:
        try:
            count = self._response.readinto(buffer)
        except (OSError, http.client.HTTPException) as error:
            raise _broken(error, self._asked) from None
        self._left -= count
        if not count and self._left > 0:
            raise unreachable("connection closed", self._asked)
        return count


class Connections:
    """Connections to one server. Thread-safe: each thread has its own."""

    def __init__(self, address: str, token: str, context: ssl.SSLContext | None) -> None:
        self._parts = urlsplit(address)
        self._token = token
        self._context = context
        self._mine = threading.local()
        self._all: weakref.WeakSet[http.client.HTTPConnection] = weakref.WeakSet()
        self._lock = threading.Lock()

    @contextmanager
    def exchange(
        self,
        method: str,
        path: str,
        asked: Asked,
        headers: Mapping[str, str] | None = None,
        body: Iterable[bytes] | None = None,
        length: int = 0,
    ) -> Generator[Answer, None, None]:
        """Send one request (``path`` below the server's address, with its query) and give its successful answer.

        The connection is kept only when the answer has been read to its end.
        """
        connection = self._connection()
        kept = False
        try:
            self._send(connection, method, path, headers or {}, body, length, asked)
            response = _received(connection, asked)
            if response.status >= 300:
                raise _refusal(response, asked)
            yield Answer(response, asked)
            kept = response.isclosed() and not response.will_close
        finally:
            if not kept:
                connection.close()

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for connection in self._all:
                connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        connection = cast("http.client.HTTPConnection | None", getattr(self._mine, "connection", None))
        if connection is None:
            host, port = self._parts.hostname or "", self._parts.port
            if self._context is None:
                connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
            else:
                connection = http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=self._context)
            self._mine.connection = connection
            with self._lock:
                self._all.add(connection)
        return connection

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Iterable[bytes] | None,
        length: int,
        asked: Asked,
    ) -> None:
        """Send a request. ``body`` is read outside the guard: what goes wrong there is not the network's fault."""
        try:
            connection.putrequest(method, self._parts.path + path, skip_accept_encoding=True)
            connection.putheader("Authorization", f"Bearer {self._token}")
            for name, value in headers.items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(length))
                connection.putheader("Content-Type", "application/octet-stream")
            connection.endheaders()
        except (OSError, http.client.HTTPException) as error:
            raise _broken(error, asked) from None
        for piece in body or ():
            try:
                connection.send(piece)
            except (BrokenPipeError, ConnectionResetError):
                return  # a server that refuses a body answers first and then closes: the answer says why
            except (OSError, http.client.HTTPException) as error:
                raise _broken(error, asked) from None


def _received(connection: http.client.HTTPConnection, asked: Asked) -> http.client.HTTPResponse:
    try:
        return connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise _broken(error, asked) from None


def _broken(error: OSError | http.client.HTTPException, asked: Asked) -> StoreError:
    return of_os_error(error if isinstance(error, OSError) else OSError("connection closed"), asked)


def _refusal(response: http.client.HTTPResponse, asked: Asked) -> StoreError:
    """The error for a refusal, with the server's own sentence where the request is at fault."""
    try:
        problem = cast("dict[str, object]", json.loads(response.read(65536)))
        detail, code = str(problem.get("detail", ""))[:400], problem.get("code")
    except (OSError, http.client.HTTPException, ValueError, AttributeError):
        detail, code = "", None
    if code == FULL:
        return StoreError("unreachable", detail)
    if response.status in _NEVER_RIGHT:
        return StoreError("invalid", detail or f"The server refused {asked.key!r} (status {response.status}).")
    if response.status == 401:
        return StoreError("denied", f"The server at {asked.address} does not accept this node's token.")
    return of_status(response.status, "", asked)
