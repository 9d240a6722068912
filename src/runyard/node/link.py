"""The way to the server: requests on kept-alive connections, one a thread, and the stream of orders."""

from __future__ import annotations

import http.client
import random
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field

from runyard.node.exchange import Exchange

TIMEOUT_S = 30.0
"""Pings come every ten seconds: a server that says nothing for this long is gone."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
BASE = "/api/v1/node"
_END = "-----END CERTIFICATE-----"


class Unreachable(Exception):
    """The server did not answer: it restarts, or the network is down. Try again."""


class Refused(Exception):
    """The server answered, and it was not a yes."""

    def __init__(self, status: int, path: str) -> None:
        super().__init__(f"The server answered {status} to {path}.")
        self.status = status


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is and how a node gets in. Its repr does not show the token. ``authority``: a file of
    certificates (PEM) that are trusted there instead of the system's; ``certificate``: or of the server's own one,
    which is known whatever names are in it."""

    url: str
    name: str
    token: str | None = field(default=None, repr=False)
    authority: str | None = None
    certificate: str | None = None

    def headers(self) -> dict[str, str]:
        """What every request carries."""
        headers = {"Runyard-Node": self.name, "Accept-Encoding": "identity"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return headers


class Backoff:
    """Pauses that double, with jitter, until something went well."""

    def __init__(self, first_s: float = FIRST_PAUSE_S, longest_s: float = LONGEST_PAUSE_S) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s

    def pause_s(self) -> float:
        """How long to wait now: between half of the step and all of it."""
        step, self._next_s = self._next_s, min(self._longest_s, self._next_s * 2)
        return step * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It went well."""
        self._next_s = self._first_s


class Link:
    """Requests to the server. Each thread keeps a connection of its own."""

    def __init__(self, address: Address, timeout_s: float = TIMEOUT_S) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._url = urllib.parse.urlsplit(address.url)
        self._base = self._url.path.rstrip("/") + BASE
        self._trusting = trusting(address.authority, address.certificate) if self._url.scheme == "https" else None
        self._kept = threading.local()
        self._streaming: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        """One request and the body of its answer. Raises :class:`Unreachable` or :class:`Refused`.

        A kept connection that the server has closed meanwhile is opened anew, once: every request may come twice.
        """
        for kept in (True, False):
            connection = self._connection(fresh=not kept)
            try:
                headers = self._headers(kind if body else None)
                status, answer = _exchange(connection, method, self._base + path, body, headers)
                if status >= 300:
                    raise Refused(status, path)
                return answer
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if not kept or isinstance(error, (ConnectionRefusedError, TimeoutError)):
                    raise Unreachable(f"{method} {path}: {error}") from None
        raise AssertionError("unreachable")

    def fetch(self, path: str) -> Iterator[bytes]:
        """The body of a GET in pieces. Raises as :meth:`ask` does, before the first piece or between two."""
        connection = self._open()
        try:
            connection.request("GET", self._base + path, headers=self._headers(None))
            response = connection.getresponse()
            if response.status >= 300:
                raise Refused(response.status, path)
            length = response.length
            while chunk := response.read(1 << 18):
                length = None if length is None else length - len(chunk)
                yield chunk
            if length:
                raise Unreachable(f"GET {path}: the answer broke off")
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"GET {path}: {error}") from None
        finally:
            connection.close()

    def lines(self, path: str) -> Iterator[bytes]:
        """The lines of an endless answer. Ends when the server ends it; raises as :meth:`ask` does."""
        connection = self._streaming = self._open()
        try:
            connection.request("GET", self._base + path, headers=self._headers(None))
            response = connection.getresponse()
            if response.status >= 300:
                raise Refused(response.status, path)
            begun: list[bytes] = []  # joined once: the order to stage a large bucket is a line of many MB
            while chunk := response.read1(1 << 16):
                first, *others = chunk.split(b"\n")
                begun.append(first)
                if others:
                    yield b"".join(begun)
                    yield from others[:-1]
                    begun = [others[-1]]
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"GET {path}: {error}") from None
        finally:
            connection.close()

    def hang_up(self) -> None:
        """End the stream of lines, from any thread: it begins again."""
        streaming = self._streaming
        if streaming is not None and streaming.sock is not None:
            try:
                streaming.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it ended by itself

    def _headers(self, kind: str | None) -> dict[str, str]:
        headers = self._address.headers()
        if kind:
            headers["Content-Type"] = kind
        return headers

    def _connection(self, *, fresh: bool) -> http.client.HTTPConnection | Exchange:
        connection: http.client.HTTPConnection | Exchange | None = getattr(self._kept, "connection", None)
        if connection is None or fresh:
            if self._url.scheme == "https":
                connection = self._open()
            else:
                connection = Exchange(self._url.hostname or "127.0.0.1", self._url.port or 80, self._timeout_s)
            self._kept.connection = connection
        return connection

    def _open(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "127.0.0.1", self._url.port
        if self._url.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=self._trusting)
        return http.client.HTTPConnection(host, port, timeout=self._timeout_s)


def _exchange(
    connection: http.client.HTTPConnection | Exchange,
    method: str,
    path: str,
    body: bytes | None,
    headers: dict[str, str],
) -> tuple[int, bytes]:
    if isinstance(connection, Exchange):
        return connection.ask(method, path, headers, body)
    connection.request(method, path, body=body, headers=headers)
    response = connection.getresponse()
    return response.status, response.read()


def trusting(authority: str | None = None, certificate: str | None = None) -> ssl.SSLContext:
    """Whom to believe to be the server; see :class:`Address`. Raises ``OSError`` for a file that cannot be used."""
    if certificate is None:
        return ssl.create_default_context(cafile=authority)
    with open(certificate, encoding="ascii") as file:
        first = file.read().partition(_END)[0] + _END
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # nothing but this very certificate is believed
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=first)
    return context
