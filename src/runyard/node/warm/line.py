"""A node's end of the control socket of a process that starts programs: a launcher, or the shim of a warm parent."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

LONGEST = 1 << 16
PATIENCE_S = 10.0
"""For so long a launch is waited for: the other side forks, and does nothing else."""

Message = dict[str, Any]


class Hung(OSError):
    """The other side is gone, or does not answer."""


class Line:
    """One SOCK_SEQPACKET connection: launches that are answered by number, and what the other side says by itself
    (``heard``, from a thread of this line; after the last message ``hung_up``)."""

    def __init__(
        self, connection: socket.socket, heard: Callable[[Message], None], hung_up: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._heard = heard
        self._hung_up = hung_up
        self._lock = threading.Lock()
        self._answers: dict[int, _Answer] = {}
        self._number = 0
        self._over = False
        threading.Thread(target=self._listen, name="line", daemon=True).start()

    def launch(self, name: str, descriptors: Sequence[int]) -> int:
        """Hand over a launch; returns the process id of its shim. Raises ``OSError`` with the other side's sentence."""
        answer = _Answer()
        with self._lock:
            if self._over:
                raise Hung("what starts programs is gone")
            self._number += 1
            number = self._number
            self._answers[number] = answer
        message = msgspec.json.encode({"op": "launch", "number": number, "name": name})
        try:
            socket.send_fds(self._connection, [message], list(descriptors))
            if not answer.given.wait(PATIENCE_S):
                raise Hung("what starts programs does not answer")
        finally:
            with self._lock:
                self._answers.pop(number, None)
        if answer.error is not None:
            raise OSError(0, answer.error)
        return answer.shim_pid

    def close(self) -> None:
        """Hang up."""
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other side was faster

    def _listen(self) -> None:
        while True:
            try:
                text = self._connection.recv(LONGEST)
            except OSError:
                text = b""
            if not text:
                break
            message: Message = msgspec.json.decode(text, type=dict[str, Any])
            number = message.get("number")
            if number is None:
                self._heard(message)
                continue
            with self._lock:
                answer = self._answers.get(number)
            if answer is not None:
                answer.take(message)
        with self._lock:
            self._over = True
            unanswered = list(self._answers.values())
        for answer in unanswered:
            answer.take({"error": "what starts programs is gone"})
        self._connection.close()
        self._hung_up()


class _Answer:
    def __init__(self) -> None:
        self.given = threading.Event()
        self.error: str | None = None
        self.shim_pid = 0

    def take(self, message: Message) -> None:
        self.error = message.get("error")
        self.shim_pid = int(message.get("shim_pid") or 0)
        self.given.set()


def pair() -> tuple[socket.socket, int]:
    """A connection, and the descriptor of its other end, to be inherited and then closed here."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    return ours, theirs.detach()


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors that were handed over."""
    for descriptor in descriptors:
        os.close(descriptor)
