"""How large machines are, in memory: what attempts without GPUs count as is asked at the end of every one."""

from __future__ import annotations

from collections.abc import Mapping

from runyard.core.resources import Resources
from runyard.ports.store import Store


class Machines:
    """The sizes of the machines, read when they are first asked for and after any of them said hello."""

    def __init__(self) -> None:
        self._sizes: Mapping[str, Resources] | None = None

    def size(self, store: Store, node_id: str) -> Resources:
        """What a machine offers; nothing where it is not known."""
        sizes = self._sizes
        if sizes is None:
            sizes = self._sizes = {node.id: node.total for node in store.nodes()}
        return sizes.get(node_id, Resources())

    def forget(self) -> None:
        """One of them has changed."""
        self._sizes = None
