"""One thread that listens to every shim's control socket."""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from runyard.node.home import AttemptFolder, Key, Record
from runyard.node.lanes import do_safely
from runyard.node.shims import connect


@dataclass(frozen=True, slots=True)
class Listener:
    """What is told of shims, from the watching thread: hand long work on. ``gone``: the shim hung up without a word
    on the end; ``over``: no process is left, with the cause of the stop, while the end is not on the disk yet; the
    others come with what it recorded."""

    started: Callable[[AttemptFolder, Record], None]
    over: Callable[[AttemptFolder, str | None], None]
    exited: Callable[[AttemptFolder, Record], None]
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
        self._selector = selectors.EpollSelector()  # what is registered while the thread waits is heard at once
        self._lock = threading.Lock()
        self._lines: dict[Key, _Line] = {}
        self.hung_up: Callable[[bool], None] = lambda _more: None
        """Told whenever a shim is listened to no longer; and whether any other is."""

    def start(self, listener: Listener) -> None:
        """Begin to listen."""
        threading.Thread(target=lambda: self._work(listener), name="watch", daemon=True).start()

    def connect(self, folder: AttemptFolder, child: subprocess.Popen[bytes] | None = None) -> None:
        """Listen to the shim of a learner, if nobody does yet. Raises ``OSError`` when it does not answer.

        ``child``: the shim's process, where this node started it; it is reaped when it ends.
        """
        key = folder.key
        with self._lock:
            if child is not None:
                self._selector.register(os.pidfd_open(child.pid), selectors.EVENT_READ, child)
            if key in self._lines:
                return
            line = self._lines[key] = _Line(folder, connect(folder))
            self._selector.register(line.connection, selectors.EVENT_READ, line)

    def drop(self, folder: AttemptFolder) -> None:
        """Listen to a learner's shim no longer, which is gone."""
        with self._lock:
            line = self._lines.pop(folder.key, None)
            more = bool(self._lines)
            if line is not None:
                self._selector.unregister(line.connection)
                line.connection.close()
        if line is not None:
            self.hung_up(more)

    def is_watched(self, run: str, attempt: int) -> bool:
        """Whether any shim of an attempt is being listened to."""
        return (run, attempt) in self.watched()

    def watched(self) -> list[tuple[str, int]]:
        """Every attempt of which a shim is being listened to, each once: its run and its number."""
        with self._lock:
            return list(dict.fromkeys((run, attempt) for run, attempt, _ in self._lines))

    def is_busy(self) -> bool:
        """Whether any shim is being listened to."""
        with self._lock:
            return bool(self._lines)

    def listened_to(self) -> list[Key]:
        """Every learner whose shim is being listened to."""
        with self._lock:
            return list(self._lines)

    def stop(self, run: str, attempt: int, cause: str, grace_ms: int | None) -> bool:
        """Ask all shims of an attempt to end their programs; ``grace_ms`` None: that of its launch order. False: there
        is none to ask."""
        with self._lock:
            lines = [line for key, line in self._lines.items() if key[:2] == (run, attempt)]
            return any([_ask_to_stop(line, cause, grace_ms) for line in lines])  # noqa: C419 - every one, not the first

    def stop_learner(self, folder: AttemptFolder, cause: str, grace_ms: int | None = None) -> bool:
        """The same for one learner. ``grace_ms`` None: that of its launch order."""
        with self._lock:
            line = self._lines.get(folder.key)
            return line is not None and _ask_to_stop(line, cause, grace_ms)

    def _work(self, listener: Listener) -> None:
        while True:
            for key, _ in self._selector.select():
                if isinstance(key.data, _Line):
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
            record: Record = msgspec.json.decode(text, type=dict[str, Any])
            if record.get("event") == "started":
                listener.started(line.folder, record)
            elif record.get("event") == "over":
                listener.over(line.folder, record.get("cause"))
            elif record.get("event") == "exited":
                line.ended = True
                listener.exited(line.folder, record.get("record") or {})

    def _hang_up(self, line: _Line) -> None:
        with self._lock:
            own = self._lines.get(line.folder.key) is line  # else it was dropped meanwhile
            if own:
                del self._lines[line.folder.key]
                self._selector.unregister(line.connection)
                line.connection.close()
            more = bool(self._lines)
        if own:
            self.hung_up(more)

    def _reap(self, descriptor: int, child: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._selector.unregister(descriptor)
        os.close(descriptor)
        child.wait()


def _ask_to_stop(line: _Line, cause: str, grace_ms: int | None) -> bool:
    order: dict[str, object] = {"op": "stop", "cause": cause}
    if grace_ms is not None:
        order["grace_s"] = grace_ms / 1000
    if line.ended:
        return False
    try:
        line.connection.send(msgspec.json.encode(order) + b"\n")
    except OSError:
        return False
    return True
