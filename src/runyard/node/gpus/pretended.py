"""Pretended GPUs, whose driver's words stand in a file: for tests, and for trying out what an operator would see."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Sequence

import msgspec

from runyard.core.gpus import Sight
from runyard.node.gpus.seeing import Unseen, Xid
from runyard.node.inotify import IN_MOVED_TO, IN_ONLYDIR, Inotify

NAME = "fake-gpus.json"
"""Below the node's home, written whole (renamed into place)."""


class Words(msgspec.Struct):
    """What the file says. ``gpus``: by number; one that is not named is free and well. ``xids``: number of the GPU, of
    the error: each is reported once, in this order, for as long as the list grows."""

    gpus: dict[int, Sight] = {}
    unseen: tuple[int, ...] = ()
    xids: tuple[tuple[int, int], ...] = ()


class Pretended:
    """A :class:`runyard.node.gpus.seeing.Gpus` of the GPUs of ``--fake-gpus``."""

    def __init__(self, home: str, indices: Sequence[int]) -> None:
        self._path = f"{home}/{NAME}"
        self._indices = frozenset(indices)
        self._reported = len(self._read().xids)
        self._inotify = Inotify()
        self._inotify.add(home, IN_MOVED_TO | IN_ONLYDIR)
        self._lock = threading.Lock()

    def _read(self) -> Words:
        try:
            with open(self._path, "rb") as file:
                return msgspec.json.decode(file.read(), type=Words)
        except FileNotFoundError:
            return Words()

    def look(self, index: int) -> Sight:
        """See :class:`runyard.node.gpus.seeing.Gpus`."""
        words = self._read()
        if index in words.unseen or index not in self._indices:
            raise Unseen("GPU is lost")
        return words.gpus.get(index, Sight(0))

    def wait(self, timeout_s: float) -> Xid | None:
        """See :class:`runyard.node.gpus.seeing.Gpus`."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            while True:
                xids = self._read().xids
                if len(xids) > self._reported:
                    self._reported += 1
                    return Xid(*xids[self._reported - 1])
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                select.select([self._inotify.fd], [], [], left)
                self._inotify.changed()
