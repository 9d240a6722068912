"""GET requests on kept-alive sockets whose bodies go from the socket's buffer straight to a file: one copy, no parsing
of what is not needed.

It speaks as much of HTTP/1.1 (RFC 9112) as object stores answer with: a status line, headers, a body of a told length.
Anything else raises :class:`NotSpoken`, and whoever asked takes another way.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from runyard.stores.faults import Asked, of_os_error, unreachable

_CONNECT_S = 5.0
_MAX_HEAD = 64 * 1024
_SIP = 1 << 20
_WORTH = 1 << 18
"""TLS gives 16 KiB at a time: that is gathered before it is written."""
_IDLE_S = 20.0
"""A connection that nobody used for so long is closed rather than tried: servers close idle ones by themselves."""
_MOST_IDLE = 32


class NotSpoken(Exception):
    """The answer is one that this module does not read."""


class Stale(Exception):
    """A kept connection that the server had closed before it answered anything."""


@dataclass(slots=True)
class Wire:
    """One connection and what was received of it but not consumed yet (``start`` to ``end`` of ``buffer``)."""

    socket: socket.socket
    buffer: bytearray = field(default_factory=lambda: bytearray(_MAX_HEAD))
    start: int = 0
    end: int = 0
    used: bool = False
    idle_since: float = 0.0

    def head(self) -> bytes:
        """The status line and the headers of the next answer, without the empty line."""
        self.start = self.end = 0
        while (found := self.buffer.find(b"\r\n\r\n", 0, self.end)) < 0:
            if self.end == _MAX_HEAD:
                raise NotSpoken("headers without an end")
            count = self.socket.recv_into(memoryview(self.buffer)[self.end :])
            if not count:
                if self.used and not self.end:
                    raise Stale
                raise ConnectionResetError("connection closed")
            self.end += count
        self.start = found + 4
        return bytes(self.buffer[:found])

    def read_into(self, target: memoryview) -> int:
        """Some bytes of the body; 0: the connection has ended."""
        if self.start < self.end:
            count = min(len(target), self.end - self.start)
            target[:count] = memoryview(self.buffer)[self.start : self.start + count]
            self.start += count
            return count
        return self.socket.recv_into(target)


class Reply:
    """An answer whose body has not been read yet. ``length``: bytes of the body."""

    def __init__(self, wire: Wire, asked: Asked) -> None:
        self._wire = wire
        self._asked = asked
        first, *lines = wire.head().decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if words[0] not in ("HTTP/1.1", "HTTP/1.0") or len(words) < 2 or not words[1].isdigit():
            raise NotSpoken(first[:80])
        self.status = int(words[1])
        self._headers = {name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
        length = self.header("content-length")
        if self.header("transfer-encoding") or not length.isdigit() or self.status < 200:
            raise NotSpoken("a body without a length")
        self.length = self._left = int(length)
        self._closes = words[0] == "HTTP/1.0" or "close" in self.header("connection").lower()

    def header(self, name: str) -> str:
        """A header by its name in lower case, empty when it is missing."""
        return self._headers.get(name, "")

    @property
    def is_spent(self) -> bool:
        """Whether the connection can be used again."""
        return self._left == 0 and not self._closes and self._wire.start == self._wire.end

    def write_to(self, fd: int, at: int, heard: Callable[[int], None]) -> None:
        """Write the body into a file from an offset on; ``heard`` is told of every piece."""
        view = _buffer()
        while self._left:
            count = self._fill(view)
            done = 0
            while done < count:
                done += os.pwrite(fd, view[done:count], at + done)
            at += count
            heard(count)

    def read(self, limit: int) -> bytes:
        """The body, if it is not longer than ``limit``; empty otherwise, and the connection is not used again."""
        if self._left > limit:
            return b""
        content, view = b"", memoryview(bytearray(limit))
        while self._left:
            content += view[: self._fill(view)]
        return content

    def _fill(self, view: memoryview) -> int:
        """Bytes of the body that are in ``view`` now: all that fit and are left, or a piece that is worth writing."""
        wanted, count = min(len(view), self._left), 0
        while count < min(wanted, _WORTH):
            try:
                more = self._wire.read_into(view[count:wanted])
            except OSError as error:  # told here, so that nobody takes it for an error of the file
                if count:
                    break  # what has come is good; the next call meets the error again
                raise of_os_error(error, self._asked) from None
            if not more:
                if count:
                    break
                raise unreachable("connection closed", self._asked)
            count += more
            self._left -= more
        return count


class Wires:
    """Kept connections to one server. Thread-safe: a connection is one thread's from its request to the end of the
    answer. Proxies are not spoken: see :func:`goes_direct`."""

    def __init__(self, address: str, context: ssl.SSLContext | None, read_timeout_s: float) -> None:
        parts = urlsplit(address)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._context = context
        self._timeout_s = read_timeout_s
        self._lock = threading.Lock()
        self._idle: list[Wire] = []

    @contextmanager
    def exchange(self, request: Callable[[], bytes], asked: Asked) -> Generator[Reply, None, None]:
        """Send what ``request`` makes (again, where a kept connection turns out closed) and give the answer, whatever
        its status. Raises :class:`StoreError` (``unreachable``) and :class:`NotSpoken`."""
        wire, reply = self._begin(request, asked)
        spent = False
        try:
            yield reply
            spent = reply.is_spent
        finally:
            if spent:
                self._keep(wire)
            else:
                wire.socket.close()

    def _begin(self, request: Callable[[], bytes], asked: Asked) -> tuple[Wire, Reply]:
        while True:
            wire = self._taken(asked)
            try:
                wire.socket.sendall(request())
                return wire, Reply(wire, asked)
            except OSError as error:
                wire.socket.close()
                if not (wire.used and isinstance(error, ConnectionError)):
                    raise of_os_error(error, asked) from None
            except Stale:
                wire.socket.close()
            except BaseException:
                wire.socket.close()
                raise

    def _taken(self, asked: Asked) -> Wire:
        now = time.monotonic()
        old: list[Wire] = []
        with self._lock:
            while self._idle and self._idle[0].idle_since < now - _IDLE_S:
                old.append(self._idle.pop(0))
            wire = self._idle.pop() if self._idle else None
        for each in old:
            each.socket.close()
        if wire is not None:
            wire.used = True
            return wire
        try:
            return Wire(self._connected())
        except OSError as error:
            raise of_os_error(error, asked) from None

    def _connected(self) -> socket.socket:
        made = socket.create_connection((self._host, self._port), _CONNECT_S)
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.settimeout(self._timeout_s)
            return self._context.wrap_socket(made, server_hostname=self._host) if self._context else made
        except BaseException:
            made.close()
            raise

    def _keep(self, wire: Wire) -> None:
        wire.idle_since = time.monotonic()
        with self._lock:
            self._idle.append(wire)
            spare = self._idle.pop(0) if len(self._idle) > _MOST_IDLE else None
        if spare is not None:
            spare.socket.close()


def goes_direct(address: str) -> bool:
    """Whether the environment names no proxy for an address."""
    parts = urlsplit(address)
    proxies = getproxies()
    return not (proxies.get(parts.scheme) or proxies.get("all")) or bool(proxy_bypass(parts.netloc))


_mine = threading.local()


def _buffer() -> memoryview:
    """This thread's own piece of memory for bodies."""
    found: memoryview | None = getattr(_mine, "buffer", None)
    if found is None:
        found = _mine.buffer = memoryview(bytearray(_SIP))
    return found
