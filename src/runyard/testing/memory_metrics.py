"""Points of metrics in memory, for tests of what stands on the port."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from runyard.core.metrics import Outline, Series, Window, empty_series, whole_outline
from runyard.ports.metrics import MetricKey, Piece, Wanted
from runyard.wire.points import Broken, extend, open_block, series_in, size_at


class MemoryMetrics:
    """A :class:`runyard.ports.metrics.MetricStore` that reads a stream block by block."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contents: dict[MetricKey, bytes] = {}
        self._notes: dict[str, list[str]] = {}

    def append(self, key: MetricKey, offset: int, chunk: bytes) -> int:
        """See :class:`runyard.ports.metrics.MetricStore`."""
        with self._lock:
            content = self._contents.get(key, b"")
            if offset <= len(content):
                content = self._contents[key] = content + chunk[len(content) - offset :]
            return len(content)

    def size(self, key: MetricKey) -> int:
        """See :class:`runyard.ports.metrics.MetricStore`."""
        return len(self._contents.get(key, b""))

    def streams(self, run_id: str) -> Sequence[MetricKey]:
        """See :class:`runyard.ports.metrics.MetricStore`."""
        with self._lock:
            found = [key for key in self._contents if key.run_id == run_id]
        return sorted(found, key=lambda key: (key.attempt, key.learner))

    def read(self, key: MetricKey, offset: int, limit: int, wanted: Wanted | None = None) -> Piece:
        """See :class:`runyard.ports.metrics.MetricStore`."""
        content, begin, wanted = memoryview(self._contents.get(key, b"")), offset, wanted or Wanted()
        found: dict[tuple[str, str], Series] = {}
        notes: list[str] = []
        while offset < len(content) and offset - begin < limit:
            try:
                size = size_at(content, offset)
                if size is None or offset + size > len(content):
                    break
                block = content[offset : offset + size]
                header, columns = open_block(block)
            except Broken:
                offset += 1
                continue
            notes += header.notes
            for group, name, points in series_in(header, block, columns):
                if wanted.name in (None, name) and wanted.group in (None, group):
                    new = empty_series(group, name, key.learner, key.attempt)
                    extend(found.setdefault((group, name), new), points)
            offset += size
        return Piece(tuple(found.values()), tuple(notes), offset)

    def outlines(self, key: MetricKey, wanted: Wanted, window: Window, stretches: int) -> Sequence[Outline]:
        """See :class:`runyard.ports.metrics.MetricStore`: here, every point, however many stretches there are."""
        del stretches
        cut = [window.cut(each) for each in self.read(key, 0, 1 << 40, wanted).series]
        return [whole_outline(each) for each in cut if len(each)]

    def note(self, run_id: str, sentences: Sequence[str]) -> None:
        """See :class:`runyard.ports.metrics.MetricStore`."""
        with self._lock:
            known = self._notes.setdefault(run_id, [])
            known += [each for each in dict.fromkeys(sentences) if each not in known]

    def notes(self, run_id: str) -> Sequence[str]:
        """See :class:`runyard.ports.metrics.MetricStore`."""
        return list(self._notes.get(run_id, ()))

    def delete(self, run_id: str) -> None:
        """See :class:`runyard.ports.metrics.MetricStore`."""
        with self._lock:
            self._contents = {key: content for key, content in self._contents.items() if key.run_id != run_id}
            self._notes.pop(run_id, None)
