"""Sums of what accounts have stored, made when they are needed and kept for some seconds."""

from __future__ import annotations

import threading
import time
from typing import Final

from runyard.ports.embedded import EmbeddedStore

_KEPT_S: Final = 5.0
_MOST: Final = 1000


class Stored:
    """Bytes of each account. Only accounts with a quota of storage are asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def bytes_of(self, embedded: EmbeddedStore, account_id: str) -> int:
        """What the account's buckets hold."""
        with self._lock:  # one at a time: all that wait take the same sum
            made, found = self._sums.get(account_id, (float("-inf"), 0))
            if time.monotonic() - made < _KEPT_S:
                return found
            if len(self._sums) >= _MOST:
                self._sums.clear()
            found = sum(
                each.size for bucket in embedded.buckets(account_id) for each in embedded.list(account_id, bucket) or ()
            )
            self._sums[account_id] = (time.monotonic(), found)
            return found

    def add(self, account_id: str, more: int) -> None:
        """So many bytes came: a sum that is remembered knows them at once."""
        with self._lock:
            if account_id in self._sums:
                made, found = self._sums[account_id]
                self._sums[account_id] = (made, found + more)

    def forget(self, account_id: str) -> None:
        """Something was removed: whoever makes room is let in at once."""
        with self._lock:
            self._sums.pop(account_id, None)
