"""Logs as files: ``<root>/<run>/<attempt>/<learner>/<stream>``, and beside each an index of times, ``<stream>.idx``.

An index holds pairs of unsigned 64-bit numbers, low byte first: the time in milliseconds at which bytes came, and the
offset of the first of them. Both rise. A pair is written before the bytes that it tells of, so after a crash an index
may tell of bytes that never came, or end within a pair; that is put right when the stream is next appended to, and
readers see through it. A log that came within ``INDEX_MS`` has no index: its modification time is set to that of its
first bytes, which says the same with a file less (most logs of short runs are such). Nothing is flushed to the disk
here: what a failing machine loses, the node sends again, since it goes on from the size that it is told.
"""

from __future__ import annotations

import os
import re
import struct
import threading
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from runyard.adapters.telemetry.clearing import clear
from runyard.adapters.telemetry.metrics import is_of_metrics
from runyard.core.errors import RunyardError
from runyard.ports.logs import LogKey
from runyard.stores.apart import lay_apart

_PAIR = struct.Struct("<QQ")
INDEX_MS = 50
"""Bytes that come less than this after those of a pair belong to it."""
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_INDEX = ".idx"


class LogFiles:
    """A :class:`runyard.ports.logs.LogStore` in a folder, which is made when missing. One process at a time appends.

    Raises ``RunyardError`` (``invalid_request``) for a key that cannot name a file.
    """

    def __init__(self, root: Path, max_open: int = 128) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lay_apart(root)
        self._root = root
        self._open = _OpenStreams(max_open)

    def append(self, key: LogKey, offset: int, chunk: bytes, at_ms: int) -> int:
        """See :class:`runyard.ports.logs.LogStore`."""
        with self._open.stream(self._path(key)) as stream:
            return stream.append(offset, chunk, at_ms)

    def size(self, key: LogKey) -> int:
        """See :class:`runyard.ports.logs.LogStore`."""
        try:
            return os.stat(self._path(key)).st_size
        except FileNotFoundError:
            return 0

    def read(self, key: LogKey, offset: int, limit: int) -> bytes:
        """See :class:`runyard.ports.logs.LogStore`."""
        try:
            fd = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            return os.pread(fd, limit, offset)
        finally:
            os.close(fd)

    def offset_at(self, key: LogKey, at_ms: int) -> int:
        """See :class:`runyard.ports.logs.LogStore`. Up to 50 ms of earlier bytes may be included, none is missed."""
        path = self._path(key)
        size = self.size(key)
        try:
            fd = os.open(path + _INDEX, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0 if _changed_ms(path) + INDEX_MS > at_ms else size
        try:
            return min(size, _search(fd, at_ms, size))
        finally:
            os.close(fd)

    def delete(self, run_id: str) -> None:
        """See :class:`runyard.ports.logs.LogStore`."""
        folder = os.path.join(self._root, _checked(run_id))
        self._open.forget(folder + "/")
        clear(folder, lambda name: not is_of_metrics(name))

    def close(self) -> None:
        """Close every file."""
        self._open.forget("")

    def _path(self, key: LogKey) -> str:
        if key.attempt < 0 or key.learner < 0 or key.stream.endswith(_INDEX):
            raise _refused(f"{key.attempt}/{key.learner}/{key.stream}")
        name = (_checked(key.run_id), str(key.attempt), str(key.learner), _checked(key.stream))
        return os.path.join(self._root, *name)


class _Stream:
    """A stream that is open for appending."""

    def __init__(self, path: str) -> None:
        try:
            self._log = _open(path)
        except FileNotFoundError:  # the first of its attempt: the folders are there for the others
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            self._log = _open(path)
        self.lock = threading.Lock()
        self.users = 0
        self._path = path
        self._index: int | None = None
        try:
            status = os.fstat(self._log)
            self._size, self._last_ms, self._pairs = status.st_size, status.st_mtime_ns // 1_000_000, 0
            if os.path.exists(path + _INDEX):
                self._index = _open(path + _INDEX)
                self._pairs, self._last_ms = _mend(self._index, self._size)
        except BaseException:
            self.close()
            raise

    def append(self, offset: int, chunk: bytes, at_ms: int) -> int:
        """Append what is new; the lock is held."""
        if offset > self._size:
            return self._size
        fresh = memoryview(chunk)[self._size - offset :]
        if fresh:
            self._note(at_ms)
        while fresh:
            written = os.pwrite(self._log, fresh, self._size)
            self._size += written
            fresh = fresh[written:]
        if self._index is None:
            os.utime(self._log, ns=(self._last_ms * 1_000_000, self._last_ms * 1_000_000))
        return self._size

    def _note(self, at_ms: int) -> None:
        if self._size == 0 and self._index is None:
            self._last_ms = at_ms
        if (self._pairs or self._index is None) and at_ms < self._last_ms + INDEX_MS:
            return
        if self._index is None:
            self._index = _open(self._path + _INDEX)
        if self._pairs == 0 and self._size:
            self._pairs = os.pwrite(self._index, _PAIR.pack(self._last_ms, 0), 0) // _PAIR.size
            if self._pairs == 0:
                return  # a full disk: the bytes belong to those before them, as long as there is no pair
        # At its place, not at the end: a pair that was cut short by a full disk is written over.
        if os.pwrite(self._index, _PAIR.pack(at_ms, self._size), self._pairs * _PAIR.size) == _PAIR.size:
            self._pairs += 1
            self._last_ms = at_ms

    def close(self) -> None:
        """Close both files."""
        os.close(self._log)
        if self._index is not None:
            os.close(self._index)


class _OpenStreams:
    """Streams that are kept open, the least recently used closed first. One stream is used by one thread at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def stream(self, path: str) -> Generator[_Stream, None, None]:
        """The stream of a file, for the caller alone."""
        with self._lock:
            stream = self._streams.get(path)
            if stream is None:
                self._make_room()
                stream = self._streams[path] = _Stream(path)
            self._streams.move_to_end(path)
            stream.users += 1
        try:
            with stream.lock:
                yield stream
        finally:
            with self._lock:
                stream.users -= 1
                if stream.users == 0 and self._streams.get(path) is not stream:
                    stream.close()

    def _make_room(self) -> None:
        many = len(self._streams) - self._most + 1
        if many > 0:
            idle = (path for path, stream in self._streams.items() if stream.users == 0)
            for path in list(islice(idle, many)):
                self._streams.pop(path).close()

    def forget(self, below: str) -> None:
        """Close the streams whose paths begin so; one in use is closed by its user."""
        with self._lock:
            for path in [path for path in self._streams if path.startswith(below)]:
                stream = self._streams.pop(path)
                if stream.users == 0:
                    stream.close()


def _open(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _changed_ms(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns // 1_000_000
    except FileNotFoundError:
        return 0


def _mend(index: int, size: int) -> tuple[int, int]:
    """Cut off what a crash left at the end of an index: half a pair, pairs of bytes that never came. Gives the number
    of pairs and the time of the last."""
    length = os.fstat(index).st_size
    pairs = length // _PAIR.size
    while pairs:
        at_ms, offset = _PAIR.unpack(os.pread(index, _PAIR.size, (pairs - 1) * _PAIR.size))
        if offset < size:
            break
        pairs -= 1
    else:
        at_ms = 0
    if length != pairs * _PAIR.size:
        os.ftruncate(index, pairs * _PAIR.size)
    return pairs, at_ms


def _search(index: int, at_ms: int, end: int) -> int:
    """The offset of the first pair whose bytes may have come at ``at_ms`` or later, ``end`` without any."""
    low, high = 0, os.fstat(index).st_size // _PAIR.size
    found = end
    while low < high:
        middle = (low + high) // 2
        pair = os.pread(index, _PAIR.size, middle * _PAIR.size)
        if len(pair) < _PAIR.size:  # cut off meanwhile
            high = middle
            continue
        came_ms, offset = _PAIR.unpack(pair)
        if came_ms + INDEX_MS > at_ms:
            found, high = offset, middle
        else:
            low = middle + 1
    return found


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise _refused(name)
    return name


def _refused(name: str) -> RunyardError:
    return RunyardError(f"{name[:80]!r} cannot be the name of a log.", code="invalid_request")
