"""Orders about the cache of data: tell what it holds, pin, unpin, clear."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from runyard.node.cache import Cache, Entry
from runyard.node.containers.images import Brought, Images
from runyard.node.disk import space_of_runs
from runyard.node.home import Home
from runyard.node.lanes import Crew
from runyard.node.report import Report
from runyard.node.room import space
from runyard.node.stage import Staging
from runyard.wire.facts import CachedListing, CacheState
from runyard.wire.orders import CacheCommand

MOST_TOLD = 1000
_KINDS: Final = {"code": "code", "data": "data", "env": "environments"}


class CacheOrders:
    """Obeys them one after the other, in a thread of its own."""

    def __init__(
        self,
        home: Home,
        cache: Cache,
        staging: Staging,
        report: Report,
        images: Callable[[], Images | None] = lambda: None,
    ) -> None:
        self._images = images
        self._home = home
        self._cache = cache
        self._staging = staging
        self._report = report
        self._crew = Crew("cache", 1)

    def obey(self, order: CacheCommand) -> None:
        """Do what is asked, and answer. Returns at once."""
        self._crew.put(lambda: self._obey(order))

    def _obey(self, order: CacheCommand) -> None:
        removed, size = 0, 0
        if order.action in ("pin", "unpin"):
            self._cache.pins.set(order.bucket, pinned=order.action == "pin")
        elif order.action == "clear":
            removed = self._staging.clear(lambda path: self._is_of(path, order.bucket))
            if not order.bucket:
                removed += self._clear_images(lambda _: True, look_only=False)[0]
        elif order.action in ("expire", "expirable"):
            removed, size = self._expire(order)
        self._report.tell(self._state(order.number, removed, size))

    def _expire(self, order: CacheCommand) -> tuple[int, int]:
        """Let go what was not used for the order's ages and nothing needs, or only look: how many, and bytes."""
        free, now = self._staging.may_go(), time.time()
        old = {
            each.path: each.size for each in self._cache.entries() if each.path in free and _is_old(each, order, now)
        }
        if order.action == "expire" and old:
            self._staging.clear(lambda path: path in old)
            old = {path: size for path, size in old.items() if not os.path.exists(path)}
        age_s = order.environments_ms / 1000
        count, size = (0, 0)
        if age_s > 0:
            count, size = self._clear_images(
                lambda image: image.used_at + age_s <= now, look_only=order.action != "expire"
            )
        return len(old) + count, sum(old.values()) + size

    def _clear_images(self, may_go: Callable[[Brought], bool], *, look_only: bool) -> tuple[int, int]:
        """Remove images that came through this node and nothing needs, or only look: how many, and bytes."""
        images = self._images()
        if images is None:
            return 0, 0
        return images.clear(may_go, self._staging.images_needed(), look_only=look_only)

    def _is_of(self, path: str, bucket: str) -> bool:
        if os.path.dirname(path) != self._cache.path("data", "").rstrip("/"):
            return False
        head = self._cache.shelves.head(os.path.basename(path))
        return not bucket or (head is not None and head.bucket == bucket)

    def _state(self, number: int, removed: int, removed_bytes: int) -> CacheState:
        used = self._staging.entries_in_use()
        latest = sorted(self._cache.entries(), reverse=True)
        told = [listing for entry in latest if (listing := self._listing(entry, entry.path in used)) is not None]
        pins = tuple(sorted(self._cache.pins.buckets))
        size = sum(entry.size for entry in latest)
        kinds = Counter({"runs": space_of_runs(self._home)})
        for entry in latest:
            kinds[_KINDS[os.path.basename(os.path.dirname(entry.path))]] += entry.size
        if (images := self._images()) is not None:
            kinds["images"] = images.size()
        free, total = space(self._home.root)
        items = tuple(told[:MOST_TOLD])
        return CacheState(
            number, size, self._cache.limit, items, pins, removed, removed_bytes, dict(kinds), free, total
        )

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


def _is_old(entry: Entry, order: CacheCommand, now: float) -> bool:
    is_environment = os.path.basename(os.path.dirname(entry.path)) == "env"
    age_ms = order.environments_ms if is_environment else order.data_ms
    return age_ms > 0 and entry.used_at * 1000 + age_ms <= now * 1000
