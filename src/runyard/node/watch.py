"""One thread that listens to every shim's control socket."""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from runyard.node.home import AttemptFolder, Record
from runyard.node.lanes import do_safely
from runyard.node.shims import connect

Key = tuple[str, int]
"""A run and the number of its attempt."""


@dataclass(frozen=True, slots=True)
class Listener:
    """What is told of shims, from the watching thread: hand long work on. ``gone``: the shim hung up without a word
    on the end."""

    started: Callable[[AttemptFolder], None]
    exited: Callable[[AttemptFolder], None]
    gone: Callable[[AttemptFolder], None]


class _Line:
    """The connection to one shim."""

    def __init__(self, folder: AttemptFolder, connection: socket.socket) -> None:
        self.folder = folder
        self.connection = connection
        self.begun = b""
        self.ended = False


class Watch:
    """The shims that live. ``connect`` and ``tell`` may be called from any thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._lines: dict[Key, _Line] = {}
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake, selectors.EVENT_READ)

    def start(self, listener: Listener) -> None:
        """Begin to listen."""
        threading.Thread(target=lambda: self._work(listener), name="watch", daemon=True).start()

    def connect(self, folder: AttemptFolder, child: subprocess.Popen[bytes] | None = None) -> None:
        """Listen to the shim of an attempt, if nobody does yet. Raises ``OSError`` when it does not answer.

        ``child``: the shim's process, where this node started it; it is reaped when it ends.
        """
        key = (folder.run, folder.number)
        with self._lock:
            if child is not None:
                self._selector.register(os.pidfd_open(child.pid), selectors.EVENT_READ, child)
            if key in self._lines:
                return
            line = self._lines[key] = _Line(folder, connect(folder))
            self._selector.register(line.connection, selectors.EVENT_READ, line)
        os.eventfd_write(self._wake, 1)

    def is_watched(self, run: str, attempt: int) -> bool:
        """Whether a shim is being listened to."""
        with self._lock:
            return (run, attempt) in self._lines

    def watched(self) -> list[Key]:
        """Every attempt whose shim is being listened to."""
        with self._lock:
            return list(self._lines)

    def stop(self, run: str, attempt: int, cause: str, grace_ms: int) -> bool:
        """Ask a shim to end its program. False: there is no shim to ask."""
        text = msgspec.json.encode({"op": "stop", "cause": cause, "grace_s": grace_ms / 1000}) + b"\n"
        with self._lock:
            line = self._lines.get((run, attempt))
            if line is None or line.ended:
                return False
            try:
                line.connection.send(text)
            except OSError:
                return False
        return True

    def _work(self, listener: Listener) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    os.eventfd_read(self._wake)
                elif isinstance(key.data, _Line):
                    do_safely(lambda line=key.data: self._hear(listener, line))
                else:
                    self._reap(key.fd, key.data)

    def _hear(self, listener: Listener, line: _Line) -> None:
        try:
            chunk = line.connection.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._hang_up(line)
            if not line.ended:
                listener.gone(line.folder)
            return
        *whole, line.begun = (line.begun + chunk).split(b"\n")
        for text in whole:
            record: Record = msgspec.json.decode(text, type=dict[str, object])
            if record.get("event") == "started":
                listener.started(line.folder)
            elif record.get("event") == "exited":
                line.ended = True
                listener.exited(line.folder)

    def _hang_up(self, line: _Line) -> None:
        with self._lock:
            self._selector.unregister(line.connection)
            line.connection.close()
            self._lines.pop((line.folder.run, line.folder.number), None)

    def _reap(self, descriptor: int, child: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._selector.unregister(descriptor)
        os.close(descriptor)
        child.wait()
