"""Points of metrics as files, beside the logs: ``<root>/<run>/<attempt>/<learner>/metrics``, the stream as it came, and
of a long one ``metrics.index`` (:mod:`runyard.adapters.telemetry.index`); ``<root>/<run>/metric-notes.txt`` has the
sentences for the user, one a line.

Nothing is flushed to the disk here: what a failing machine loses, the node sends again, since it goes on from the size
that it is told.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from runyard.adapters.telemetry.blocks import BlockReader, read_blocks
from runyard.adapters.telemetry.clearing import clear
from runyard.adapters.telemetry.index import SEGMENT, extend_index, indexed
from runyard.adapters.telemetry.outlines import Drawing, drawn
from runyard.core.errors import RunyardError
from runyard.core.metrics import Outline, Window
from runyard.ports.metrics import MetricKey, Piece, Wanted

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_FILE = "metrics"
INDEX = ".index"
_APPENDED = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_NOTES = "metric-notes.txt"
_LOCKS = 64


class MetricFiles:
    """A :class:`runyard.ports.metrics.MetricStore` in a folder, which is made when missing. One process at a time
    appends. ``segment``: a part of the index tells of so many bytes at least.

    Raises ``RunyardError`` (``invalid_request``) for a key that cannot name a file.
    """

    def __init__(self, root: Path, segment: int = SEGMENT) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root = root
        self._segment = segment
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def append(self, key: MetricKey, offset: int, chunk: bytes) -> int:
        """See :class:`runyard.ports.metrics.MetricStore`."""
        path = self._path(key)
        with self._locks[hash(key) % _LOCKS], _made(path) as descriptor:
            size = os.fstat(descriptor).st_size
            fresh = memoryview(chunk)[size - offset :] if offset <= size else memoryview(b"")
            while fresh:
                written = os.pwrite(descriptor, fresh, size)
                size += written
                fresh = fresh[written:]
            if size >= self._segment:
                self._index(path, descriptor, key, size)
            return size

    def size(self, key: MetricKey) -> int:
        """See :class:`runyard.ports.metrics.MetricStore`."""
        try:
            return os.stat(self._path(key)).st_size
        except FileNotFoundError:
            return 0

    def streams(self, run_id: str) -> Sequence[MetricKey]:
        """See :class:`runyard.ports.metrics.MetricStore`."""
        folder = os.path.join(self._root, _checked(run_id))
        return [
            MetricKey(run_id, attempt, learner)
            for attempt in _numbers(folder)
            for learner in _numbers(os.path.join(folder, str(attempt)))
            if os.path.exists(os.path.join(folder, str(attempt), str(learner), _FILE))
        ]

    def read(self, key: MetricKey, offset: int, limit: int, wanted: Wanted | None = None) -> Piece:
        """See :class:`runyard.ports.metrics.MetricStore`."""
        reader = BlockReader(key, wanted)
        with contextlib.suppress(FileNotFoundError), _opened(self._path(key), os.O_RDONLY) as descriptor:
            offset = read_blocks(descriptor, reader, offset, limit)
        return reader.piece(offset)

    def outlines(self, key: MetricKey, wanted: Wanted, window: Window, stretches: int) -> Sequence[Outline]:
        """See :class:`runyard.ports.metrics.MetricStore`."""
        path = self._path(key)
        with ExitStack() as files:
            try:
                stream = files.enter_context(_opened(path, os.O_RDONLY))
            except FileNotFoundError:
                return []
            try:
                index = files.enter_context(_opened(path + INDEX, os.O_RDONLY))
            except FileNotFoundError:
                index = None
            return drawn(Drawing(stream, index, key, wanted, window, stretches))

    def _index(self, path: str, stream: int, key: MetricKey, size: int) -> None:
        """Bring the index of a stream up to date, where it is a segment behind."""
        with _opened(path + INDEX, os.O_RDWR | os.O_CREAT) as index:
            if size - indexed(index) >= self._segment:
                extend_index(index, stream, key, size, self._segment)

    def note(self, run_id: str, sentences: Sequence[str]) -> None:
        """See :class:`runyard.ports.metrics.MetricStore`."""
        path = self._notes(run_id)
        with self._locks[hash(run_id) % _LOCKS]:
            known = self.notes(run_id)
            fresh = [each for each in dict.fromkeys(map(_one_line, sentences)) if each not in known]
            if fresh:
                os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
                with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as descriptor:
                    os.write(descriptor, "".join(f"{each}\n" for each in fresh).encode())

    def notes(self, run_id: str) -> Sequence[str]:
        """See :class:`runyard.ports.metrics.MetricStore`."""
        try:
            with open(self._notes(run_id), encoding="utf-8", errors="replace") as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []

    def _notes(self, run_id: str) -> str:
        return os.path.join(self._root, _checked(run_id), _NOTES)

    def delete(self, run_id: str) -> None:
        """See :class:`runyard.ports.metrics.MetricStore`."""
        clear(os.path.join(self._root, _checked(run_id)), is_of_metrics)

    def _path(self, key: MetricKey) -> str:
        if key.attempt < 1 or key.learner < 1:
            raise _refused(f"{key.attempt}/{key.learner}")
        return os.path.join(self._root, _checked(key.run_id), str(key.attempt), str(key.learner), _FILE)


def is_of_metrics(name: str) -> bool:
    """Whether a file of this name, beside logs, is one of metrics."""
    return name in (_FILE, _FILE + INDEX, _NOTES)


@contextmanager
def _opened(path: str, flags: int) -> Generator[int]:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _made(path: str) -> Generator[int]:
    try:
        descriptor = os.open(path, _APPENDED, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        descriptor = os.open(path, _APPENDED, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _numbers(folder: str) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(folder) if name.isascii() and name.isdigit())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _one_line(sentence: str) -> str:
    return " ".join(sentence.split())


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise _refused(name)
    return name


def _refused(name: str) -> RunyardError:
    return RunyardError(f"{name[:80]!r} cannot be the name of a stream of metrics.", code="invalid_request")
