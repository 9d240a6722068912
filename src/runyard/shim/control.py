"""The shim's end of ``control.sock``: JSON lines both ways with any number of clients, none of which can hold it up;
and the connection over which launches come to a process that makes shims of them."""

from __future__ import annotations  # for interpreters of environments, from 3.8 on

import _socket
import os
import sys

from runyard.shim.lean import decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runyard.shim.lean import Record

LINE_LIMIT = 64 * 1024
"""A client that sends a longer line is let go."""
MESSAGE_LIMIT = 64 * 1024
MOST_DESCRIPTORS = 64


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

    def tell(self, descriptor: int, record: Mapping[str, object]) -> None:
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

    def tell_all(self, record: Mapping[str, object]) -> None:
        """Send one line to every client."""
        for descriptor in list(self._begun):
            self.tell(descriptor, record)

    def connected(self) -> list[int]:
        """The descriptors of everybody."""
        return list(self._begun)

    def lines(self, descriptor: int) -> list[Record]:
        """The whole lines that a client has sent since; one that is no JSON object is an empty record."""
        if descriptor not in self._begun:
            return []  # let go a moment ago
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


def _record(line: bytes) -> Record:
    try:
        return decode(line)
    except ValueError:
        return {}


class Launching:
    """The descriptors of a launch."""

    __slots__ = ("errors", "folder", "holding", "listening", "lock", "order")

    def __init__(self, folder: int, lock: int, listening: int, order: int, errors: int, holding: list[int]) -> None:
        self.folder = folder
        self.lock = lock
        """Held for as long as the run is supervised, like ``holding``."""
        self.listening = listening
        self.order = order
        """The launch order, a file in memory."""
        self.errors = errors
        """What goes to stderr."""
        self.holding = holding


def descriptors_of(received: list[int]) -> Launching:
    """Which of the descriptors that came with a launch is which. Raises ``ValueError``."""
    if len(received) < 5:
        raise ValueError("a launch comes with at least five descriptors")
    folder, lock, listening, order, errors, *holding = received
    return Launching(folder, lock, listening, order, errors, holding)


class Control:
    """A connection of packets, each a JSON object, with descriptors (unix(7), SOCK_SEQPACKET and SCM_RIGHTS)."""

    __slots__ = ("_socket",)

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, descriptor)

    def fileno(self) -> int:
        """The descriptor of the connection."""
        return self._socket.fileno()

    def receive(self) -> tuple[Record, list[int]] | None:
        """The next packet and its descriptors, which are the caller's to close; one that is no JSON object is an empty
        record. None: the other side has hung up."""
        room = _socket.CMSG_SPACE(4 * MOST_DESCRIPTORS)
        try:
            text, ancillary, _, _ = self._socket.recvmsg(MESSAGE_LIMIT, room, _socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return None
        descriptors: list[int] = []
        for level, kind, content in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                words = range(0, len(content) - len(content) % 4, 4)
                descriptors += [int.from_bytes(content[at : at + 4], sys.byteorder) for at in words]
        return (_record(text), descriptors) if text else None

    def tell(self, record: Mapping[str, object], descriptors: Sequence[int] = ()) -> bool:
        """Send a packet; says whether the other side is still there to take it."""
        words = b"".join(descriptor.to_bytes(4, sys.byteorder) for descriptor in descriptors)
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, words)] if words else []
        try:
            self._socket.sendmsg([encode(dict(record)).encode()], ancillary, _socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
