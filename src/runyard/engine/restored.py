"""After a restore: machines that were connected when the backup was made may have gone on without us.

What they began since is taken over when they say hello (:mod:`runyard.engine.adopting`). Until each of them has, or
has stayed away for too long, nothing is started: it might run on one of them already.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from typing import Any, Final

from runyard.ports.clock import Clock
from runyard.ports.store import Store

NOTE: Final = "restored"


def note_of(nodes: Iterable[str]) -> tuple[str, str]:
    """The note that a restored store carries: its name and text, with the machines to wait for."""
    return NOTE, json.dumps({"nodes": sorted(nodes), "since_ms": 0})


class Awaited:
    """The machines that have not been heard of since a restore. Kept in the store: a restart forgets nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nodes: set[str] = set()
        self._since_ms = 0
        self._until_ms = 0

    def load(self, store: Store, clock: Clock, patience_ms: int) -> None:
        """Read the note as the server starts; the first server's start is when the waiting begins."""
        text = store.note(NOTE)
        if text is None:
            return
        found: dict[str, Any] = json.loads(text)
        if not found["since_ms"]:
            found["since_ms"] = clock.now_ms()
            store.put_note(NOTE, json.dumps(found))
        with self._lock:
            self._nodes = set(found["nodes"])
            self._since_ms = int(found["since_ms"])
            self._until_ms = self._since_ms + patience_ms

    def heard(self, store: Store, node_id: str) -> None:
        """A machine has said hello."""
        with self._lock:
            if node_id not in self._nodes:
                return
            self._nodes.discard(node_id)
            left = json.dumps({"nodes": sorted(self._nodes), "since_ms": self._since_ms}) if self._nodes else None
        store.put_note(NOTE, left)

    def awaits(self, node_id: str) -> bool:
        """Whether a machine has not been heard of since the restore."""
        with self._lock:
            return node_id in self._nodes

    def sentence(self, now_ms: int) -> str | None:
        """Why nothing may start now, None when there is no reason."""
        with self._lock:
            if not self._nodes or now_ms >= self._until_ms:
                return None
            names = ", ".join(sorted(self._nodes))
            return (
                f"The installation was restored from a backup, and waits for {names}, which may have gone on: for "
                f"{max(1, (self._until_ms - now_ms) // 1000)} seconds more at most."
            )

    def wake_at_ms(self, now_ms: int) -> int | None:
        """When the waiting is over at the latest, None when nobody is waited for."""
        with self._lock:
            return self._until_ms if self._nodes and now_ms < self._until_ms else None
