"""The spool of one learner: an append-only file of blocks (:mod:`runyard.wire.points`) in the node's own folder.

A block has points and how far their sources were read, so both are there or neither is: a node that was killed cuts
off what it did not finish, and goes on where the last block ends. Nothing is offered to the server before it is on the
disk, so that the server never has more than this machine, whatever dies.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from runyard.core.metrics import Series
from runyard.wire.points import Broken, Cursor, encode, open_block, size_at

_WINDOW = 4 << 20
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class Spool:
    """An open spool. ``size``: bytes of it that are whole and on the disk; ``cursors``: how far each source was read;
    ``names``, ``points``, ``notes``: the metrics that are in it, how many points, which sentences."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = -1
        self.size = 0
        self.cursors: dict[str, Cursor] = {}
        self.names: set[tuple[str, str]] = set()
        self.points = 0
        self.notes: list[str] = []
        self._unsaid: dict[str, Cursor] = {}
        self._waiting: bytes = b""
        try:
            self._file = os.open(path, _FLAGS)
        except FileNotFoundError:
            return  # it is made when there is something to put into it
        self._recover()

    def _recover(self) -> None:
        window = _WINDOW
        while buffer := os.pread(self._file, window, self.size):
            taken = self._take(memoryview(buffer))
            self.size += taken
            if len(buffer) < window:
                break
            window = _WINDOW if taken else window * 2
        if os.fstat(self._file).st_size > self.size:
            os.ftruncate(self._file, self.size)

    def _take(self, buffer: memoryview) -> int:
        at = 0
        try:
            while (size := size_at(buffer, at)) is not None and at + size <= len(buffer):
                header, _ = open_block(buffer[at : at + size])
                self.cursors |= header.cursors
                self.names |= {(group, name) for group, name, _ in header.series}
                self.points += sum(count for _, _, count in header.series)
                self.notes += header.notes
                at += size
        except Broken:
            pass  # the end of a write that was not finished
        return at

    def read_to(self, source: str, cursor: Cursor) -> None:
        """Note how far a source was read, for the next block."""
        if self.cursors.get(source) != cursor:
            self.cursors[source] = self._unsaid[source] = cursor

    def put(self, series: Sequence[Series], notes: Sequence[str]) -> bool:
        """Write a block, when there is anything to say; says whether one was written. Raises ``OSError``: what could
        not be written is kept, and :meth:`flush` tries again."""
        if not series and not notes:
            return self.flush()
        self._waiting += encode(series, self._unsaid, notes)
        self._unsaid = {}
        return self.flush()

    def flush(self) -> bool:
        """Write what could not be written before. Raises ``OSError``."""
        if not self._waiting:
            return False
        if self._file < 0:
            self._file = os.open(self._path, _FLAGS | os.O_CREAT, 0o600)
        try:
            left = memoryview(self._waiting)
            while left:
                left = left[os.write(self._file, left) :]
            os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, self.size)
            raise
        self.size += len(self._waiting)
        self._waiting = b""
        return True

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
