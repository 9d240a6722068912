"""Which attempt has which GPU slots of this machine, until nothing of its program is left."""

from __future__ import annotations

import threading
from collections.abc import Sequence

Attempt = tuple[str, int]
"""A run and the number of its attempt."""


class Occupied:
    """The slots of attempts that are being started or live here. In memory: folders tell after a restart."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_slot: dict[int, Attempt] = {}
        self._slots: dict[Attempt, tuple[int, ...]] = {}

    def take(self, attempt: Attempt, slots: Sequence[int], *, over: bool = False) -> Attempt | None:
        """Give slots to an attempt, in the place of those that it had; returns another one that has some of them still,
        and then gives none. ``over``: it takes them over from whoever has them."""
        with self._lock:
            if not over:
                other = next((had for slot in slots if (had := self._by_slot.get(slot, attempt)) != attempt), None)
                if other is not None:
                    return other
            self._leave(attempt)
            self._slots[attempt] = tuple(slots)
            self._by_slot |= dict.fromkeys(slots, attempt)
            return None

    def leave(self, attempt: Attempt) -> None:
        """Nothing of an attempt is left, or it never begins."""
        with self._lock:
            self._leave(attempt)

    def forget(self, run: str) -> None:
        """Nothing of a run is left."""
        with self._lock:
            for attempt in [each for each in self._slots if each[0] == run]:
                self._leave(attempt)

    def _leave(self, attempt: Attempt) -> None:
        for slot in self._slots.pop(attempt, ()):
            if self._by_slot.get(slot) == attempt:
                del self._by_slot[slot]
