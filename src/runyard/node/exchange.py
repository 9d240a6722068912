"""One request and its answer over a kept connection, as little as the node's own need: short bodies, held in memory.

What the standard library's client does for each answer (its header is read as an e-mail's) costs more than the rest of
a fact's way. RFC 9112; anything that is not understood breaks the connection off.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

MOST_HEAD = 64 << 10
_SIP = 1 << 16


class BadAnswer(OSError):
    """What came is no answer, or it ended too early."""


class Exchange:
    """A connection to a server that speaks HTTP/1.1 without TLS. Used by one thread."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self._host = host
        self._port = port
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._rest = b""

    def close(self) -> None:
        """Hang up; the next request connects anew."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._rest = None, b""

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes]:
        """Status and body of the answer. Raises ``OSError``."""
        connection = self._socket
        if connection is None:
            connection = self._socket = socket.create_connection((self._host, self._port), self._timeout_s)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        host = f"[{self._host}]" if ":" in self._host else self._host
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}:{self._port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None or method != "GET":
            lines.append(f"Content-Length: {len(body or b'')}")
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))
        return self._answer(connection)

    def _answer(self, connection: socket.socket) -> tuple[int, bytes]:
        status = 100
        fields: dict[str, str] = {}
        while status < 200:
            status, fields = _head(self._to(connection, b"\r\n\r\n"))
        if status in (204, 304):
            content = b""
        elif fields.get("transfer-encoding", "").lower() == "chunked":
            content = self._chunks(connection)
        elif "content-length" in fields:
            content = self._exactly(connection, int(fields["content-length"]))
        else:
            raise BadAnswer("an answer without a length")
        if fields.get("connection", "").lower() == "close":
            self.close()
        return status, content

    def _chunks(self, connection: socket.socket) -> bytes:
        content = b""
        while size := int(self._to(connection, b"\r\n").split(b";")[0], 16):
            content += self._exactly(connection, size)
            self._to(connection, b"\r\n")
        while self._to(connection, b"\r\n"):
            pass  # trailers
        return content

    def _to(self, connection: socket.socket, end: bytes) -> bytes:
        """What comes before ``end``, which is taken away with it."""
        while (at := self._rest.find(end)) < 0:
            if len(self._rest) > MOST_HEAD:
                raise BadAnswer("an answer without end")
            self._rest += _sip(connection)
        found, self._rest = self._rest[:at], self._rest[at + len(end) :]
        return found

    def _exactly(self, connection: socket.socket, size: int) -> bytes:
        parts, left = [self._rest[:size]], size - len(self._rest)
        self._rest = self._rest[size:]
        while left > 0:
            part = _sip(connection)
            parts.append(part[:left])
            self._rest = part[left:]
            left -= len(part)
        return b"".join(parts)


def _sip(connection: socket.socket) -> bytes:
    part = connection.recv(_SIP)
    if not part:
        raise BadAnswer("the connection was closed")
    return part


def _head(text: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = text.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise BadAnswer("no answer of a web server")
    fields = (line.partition(":") for line in lines)
    return int(words[1]), {name.lower(): value.strip() for name, _, value in fields}
