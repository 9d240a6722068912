"""Logs in memory, for tests of what stands on the port."""

from __future__ import annotations

import threading

from runyard.ports.logs import LogKey


class MemoryLogs:
    """A :class:`runyard.ports.logs.LogStore` that remembers every append with its time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contents: dict[LogKey, bytearray] = {}
        self._times: dict[LogKey, list[tuple[int, int]]] = {}

    def append(self, key: LogKey, offset: int, chunk: bytes, at_ms: int) -> int:
        """See :class:`runyard.ports.logs.LogStore`."""
        with self._lock:
            content = self._contents.setdefault(key, bytearray())
            fresh = chunk[len(content) - offset :] if offset <= len(content) else b""
            if fresh:
                self._times.setdefault(key, []).append((at_ms, len(content)))
                content += fresh
            return len(content)

    def size(self, key: LogKey) -> int:
        """See :class:`runyard.ports.logs.LogStore`."""
        with self._lock:
            return len(self._contents.get(key, b""))

    def read(self, key: LogKey, offset: int, limit: int) -> bytes:
        """See :class:`runyard.ports.logs.LogStore`."""
        with self._lock:
            return bytes(self._contents.get(key, b"")[offset : offset + limit])

    def offset_at(self, key: LogKey, at_ms: int) -> int:
        """See :class:`runyard.ports.logs.LogStore`."""
        with self._lock:
            later = (offset for came_ms, offset in self._times.get(key, ()) if came_ms >= at_ms)
            return next(later, len(self._contents.get(key, b"")))

    def delete(self, run_id: str) -> None:
        """See :class:`runyard.ports.logs.LogStore`."""
        with self._lock:
            for key in [key for key in self._contents if key.run_id == run_id]:
                del self._contents[key]
                self._times.pop(key, None)
