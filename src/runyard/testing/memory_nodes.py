"""The machines, of the store in memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from runyard.ports.store import Node


class MemoryNodes:
    """The machines that execute runs."""

    _lock: threading.RLock

    def __init__(self) -> None:
        super().__init__()
        self._nodes: dict[str, Node] = {}
        self._drains: dict[str, int] = {}

    def put_node(self, node: Node) -> None:
        with self._lock:
            self._nodes[node.id] = node

    def nodes(self) -> Sequence[Node]:
        with self._lock:
            return [replace(self._nodes[each], draining_ms=self._drains.get(each)) for each in sorted(self._nodes)]

    def set_draining(self, node_id: str, since_ms: int | None) -> bool:
        with self._lock:
            if node_id not in self._nodes:
                return False
            if since_ms is None:
                self._drains.pop(node_id, None)
            else:
                self._drains.setdefault(node_id, since_ms)
            return True
