"""The shim's end of ``control.sock``: JSON lines both ways with any number of clients, none of which can hold it up."""

import _socket
import os

from runyard.shim.lean import decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from runyard.shim.lean import Record

LINE_LIMIT = 64 * 1024
"""A client that sends a longer line is let go."""


class Clients:
    """Who is connected, and what each has sent of its current line."""

    __slots__ = ("_begun", "listening")

    def __init__(self, descriptor: int) -> None:
        self.listening = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, descriptor)
        self.listening.setblocking(False)
        self._begun: dict[int, bytes] = {}

    def accept(self) -> list[int]:
        """Take in everybody who waits at the door; returns their descriptors."""
        arrived: list[int] = []
        while True:
            try:
                descriptor = self._next()
            except OSError:
                return arrived
            os.set_blocking(descriptor, False)
            self._begun[descriptor] = b""
            arrived.append(descriptor)

    def _next(self) -> int:
        return self.listening._accept()[0]  # pyright: ignore - the stub lacks socket.py's own way

    def tell(self, descriptor: int, record: "Mapping[str, object]") -> None:
        """Send one line to one client. One that does not take its lines is let go; one that has left is not yet: what
        it said before still counts."""
        line = encode(dict(record)).encode() + b"\n"
        try:
            whole = os.write(descriptor, line) == len(line)
        except (BrokenPipeError, ConnectionResetError):
            return
        except OSError:
            whole = False
        if not whole:
            self.drop(descriptor)

    def tell_all(self, record: "Mapping[str, object]") -> None:
        """Send one line to every client."""
        for descriptor in list(self._begun):
            self.tell(descriptor, record)

    def connected(self) -> list[int]:
        """The descriptors of everybody."""
        return list(self._begun)

    def lines(self, descriptor: int) -> "list[Record]":
        """The whole lines that a client has sent since; one that is no JSON object is an empty record."""
        try:
            chunk = os.read(descriptor, LINE_LIMIT)
        except BlockingIOError:
            return []
        except OSError:
            chunk = b""
        *whole, begun = (self._begun[descriptor] + chunk).split(b"\n")
        if not chunk or len(begun) > LINE_LIMIT:
            self.drop(descriptor)
            return []
        self._begun[descriptor] = begun
        return [_record(line) for line in whole]

    def drop(self, descriptor: int) -> None:
        """Let a client go."""
        if self._begun.pop(descriptor, None) is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Let everybody go, and close the door."""
        for descriptor in list(self._begun):
            self.drop(descriptor)
        self.listening.close()


def _record(line: bytes) -> "Record":
    try:
        return decode(line)
    except ValueError:
        return {}
