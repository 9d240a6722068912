"""Orders about the cache of data: tell what it holds, pin, unpin, clear."""

from __future__ import annotations

import os

from runyard.node.cache import Cache, Entry
from runyard.node.lanes import Crew
from runyard.node.report import Report
from runyard.node.stage import Staging
from runyard.wire.facts import CachedListing, CacheState
from runyard.wire.orders import CacheCommand

MOST_TOLD = 1000


class CacheOrders:
    """Obeys them one after the other, in a thread of its own."""

    def __init__(self, cache: Cache, staging: Staging, report: Report) -> None:
        self._cache = cache
        self._staging = staging
        self._report = report
        self._crew = Crew("cache", 1)

    def obey(self, order: CacheCommand) -> None:
        """Do what is asked, and answer. Returns at once."""
        self._crew.put(lambda: self._obey(order))

    def _obey(self, order: CacheCommand) -> None:
        removed = 0
        if order.action in ("pin", "unpin"):
            self._cache.pins.set(order.bucket, pinned=order.action == "pin")
        elif order.action == "clear":
            removed = self._staging.clear(lambda path: self._is_of(path, order.bucket))
        self._report.tell(self._state(order.number, removed))

    def _is_of(self, path: str, bucket: str) -> bool:
        if os.path.dirname(path) != self._cache.path("data", "").rstrip("/"):
            return False
        head = self._cache.shelves.head(os.path.basename(path))
        return not bucket or (head is not None and head.bucket == bucket)

    def _state(self, number: int, removed: int) -> CacheState:
        used = self._staging.entries_in_use()
        latest = sorted(self._cache.entries(), reverse=True)
        told = [listing for entry in latest if (listing := self._listing(entry, entry.path in used)) is not None]
        pins = tuple(sorted(self._cache.pins.buckets))
        size = sum(entry.size for entry in latest)
        return CacheState(number, size, self._cache.limit, tuple(told[:MOST_TOLD]), pins, removed)

    def _listing(self, entry: Entry, in_use: bool) -> CachedListing | None:
        """What an entry is; None for code, environments, and folders of links."""
        head = self._cache.shelves.head(os.path.basename(entry.path))
        if head is None:
            return None
        return CachedListing(
            head.kind,
            head.address,
            head.bucket,
            head.prefix,
            head.account,
            head.objects,
            head.size,
            entry.size,
            int(entry.used_at * 1000),
            head.bucket in self._cache.pins.buckets,
            in_use,
        )
