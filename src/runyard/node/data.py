"""Training data: from the references of a spec to read-only folders."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from runyard.node.access import StoreAccess
from runyard.node.cache import Cache, remove_tree
from runyard.node.evidence import Evidence, human
from runyard.node.lanes import Crew
from runyard.node.parallel import WIDTH, Patience
from runyard.node.ready import Reference
from runyard.node.shelves import head_of
from runyard.node.taking import may_link, take_all
from runyard.node.views import (
    SEALED,
    Fetching,
    close_folders,
    earlier_key,
    folder_of,
    make_folders,
    merge,
    usable,
    view_key,
)
from runyard.stores.errors import StoreError
from runyard.wire.orders import Item, Part, Place

MOST_NAMED = 1000
"""Objects of a data reference that the evidence names."""
REST = "rest-"
"""With the key of a view: what there is of one that could not be finished."""
OnBytes = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class StagedData:
    """All data of a spec. ``folder`` is ``DATA_DIR`` (None: no data); ``entries`` are the cache's folders in use;
    ``fetched`` is in bytes."""

    folder: str | None
    references: tuple[Reference, ...]
    entries: tuple[str, ...]
    fetched: int


@dataclass(frozen=True, slots=True)
class Asking:
    """What staging the data of a spec goes by. ``spec``: its fingerprint; ``room``: makes room for so many bytes;
    ``hold``: is told of entries of the cache that must stay from now on."""

    spec: str
    evidence: Evidence
    on_bytes: OnBytes
    room: Callable[[int], None]
    hold: Callable[[str], None]


class DataFetcher:
    """Makes views of data in the cache."""

    def __init__(self, cache: Cache, access: StoreAccess, patience_s: float) -> None:
        self._cache = cache
        self._access = access
        self._patience_s = patience_s
        self._crew = Crew("fetch", WIDTH + WIDTH // 2)
        self._link = may_link()

    def stage_all(self, parts: Sequence[Part], asking: Asking) -> StagedData:
        """Make every reference ready, and a merged view where there are several.

        Raises :class:`StoreError`, or ``OSError`` for our own disk.
        """
        references: list[Reference] = []
        entries: list[str] = []
        fetched = 0
        for number, part in enumerate(parts, start=1):
            name = part.place.name or part.place.bucket or str(number)
            if part.place.kind == "volume":
                path = self._volume(part.place, name, asking.evidence)
            else:
                path, size = self._view(part, name, asking)
                entries.append(path)
                fetched += size
            references.append(Reference(name, path))
        folder = references[0].path if references else None
        if len(references) > 1:
            folder = self._merged(references, asking.spec, asking.evidence)
            asking.hold(folder)
            entries.append(folder)
        return StagedData(folder, tuple(references), tuple(entries), fetched)

    def _volume(self, place: Place, name: str, evidence: Evidence) -> str:
        try:
            path = folder_of(place, self._access.roots)
        except StoreError as error:
            evidence.note(error.message)
            raise StoreError("not_found", error.message) from None
        evidence.note(f"Data reference {name!r} is the folder {path} of this machine, read in place.")
        return path

    def _view(self, part: Part, name: str, asking: Asking) -> tuple[str, int]:
        key, evidence = self._key(part, asking.spec), asking.evidence
        total = sum(item.size for item in part.items)
        words = f"Data reference {name!r}, {place_words(part.place)}: {len(part.items)} objects, {human(total)}"
        with self._cache.making("data", key):
            path = self._cache.path("data", key)
            asking.hold(path)
            if self._cache.has("data", key):
                evidence.note(f"{words}. It is in this machine's cache, nothing is fetched.")
                name_all(part.items, evidence)
                asking.on_bytes(total)
                return path, 0
            evidence.note(f"{words}.")
            name_all(part.items, evidence)
            fetched = self._make(part, key, asking)
        return path, fetched

    def _key(self, part: Part, spec: str) -> str:
        key = view_key(part, spec)
        if not self._cache.has("data", key) and self._cache.has("data", earlier := earlier_key(part, spec)):
            return earlier
        return key

    def _make(self, part: Part, key: str, asking: Asking) -> int:
        """Make a view of what other views have and what is fetched; returns the bytes fetched."""
        items = usable(part.items, asking.evidence)
        shelves = self._cache.shelves
        with shelves.claiming(part.place, items), self._cache.holding() as hold:
            sources = shelves.find(part.place, items)
            for view in {source.view for source in sources.values()}:
                hold(view)
            asking.room(sum(item.size for item in items if not self._link or item.key not in sources))
            folder = self._cache.temporary()
            try:
                make_folders(items, folder)
                taken = take_all(sources, {item.key: item for item in items}, folder, link=self._link)
                missing = [item for item in items if item.key not in taken]
                copied = sum(item.size for item in items if taken.get(item.key))
                asking.on_bytes(sum(item.size for item in items if item.key in taken))
                if taken:
                    asking.evidence.note(f"{len(taken)} of them are in this machine's cache.")
                fetched = self._fetch(part, key, missing, folder, asking)
                close_folders(folder)
                head = msgspec.structs.replace(head_of(part.place, items), sealed_ns=time.time_ns())
                shelves.put(key, head, items)
                self._cache.keep(folder, "data", key, fetched + copied, SEALED)
            except BaseException:
                remove_tree(folder)
                raise
        self._cache.drop("data", REST + key)
        return fetched

    def _fetch(self, part: Part, key: str, items: Sequence[Item], folder: str, asking: Asking) -> int:
        size, evidence = sum(item.size for item in items), asking.evidence
        if not items:
            return 0
        room = os.statvfs(folder)
        if size > room.f_bavail * room.f_frsize:
            words = f"the data need {human(size)} and the disk has {human(room.f_bavail * room.f_frsize)}"
            raise OSError(28, words)
        evidence.note(f"Fetching {len(items)} objects, {human(size)}.")
        began = time.monotonic()
        store = self._access.open(part.place)
        fetching = Fetching(store, evidence, Patience(self._patience_s), asking.on_bytes)
        try:
            fetching.fetch_all(self._crew, items, folder)
        except StoreError as error:
            evidence.note(f"Given up: {error.message}")
            if not error.definite:
                self._keep_rest(part.place, key, fetching.whole, folder)
            raise
        finally:
            store.close()
        took = time.monotonic() - began
        evidence.note(f"Fetched {human(size)} in {took:.2f} s ({human(int(size / max(took, 0.001)))} a second).")
        return size

    def _keep_rest(self, place: Place, key: str, whole: Sequence[Item], folder: str) -> None:
        """Keep what has come of a view that could not be finished, for the next try."""
        self._cache.drop("data", REST + key)
        rest, kept = self._cache.temporary(), [item for item in whole if item.etag]
        make_folders(kept, rest)
        for item in kept:
            os.rename(f"{folder}/{item.key}", f"{rest}/{item.key}")
        close_folders(rest)
        if not kept:
            remove_tree(rest)
            return
        head = msgspec.structs.replace(head_of(place, kept), sealed_ns=time.time_ns())
        self._cache.shelves.put(REST + key, head, kept)
        self._cache.keep(rest, "data", REST + key, head.size, SEALED)

    def _merged(self, references: Sequence[Reference], spec: str, evidence: Evidence) -> str:
        sources = [(reference.name, reference.path) for reference in references]
        inside = all(path.startswith(self._cache.path("data", "")) for _, path in sources)
        text = "\0".join([*(path for _, path in sources), "" if inside else spec])
        return merge(self._cache, sources, hashlib.sha256(text.encode()).hexdigest(), evidence)


def name_all(items: Sequence[Item], evidence: Evidence) -> None:
    """Put down what was listed: each object with its size and etag, up to so many."""
    named = [
        f"{item.key[:300]!r}: {item.size} bytes" + (f", etag {item.etag}" if item.etag else "")
        for item in items[:MOST_NAMED]
    ]
    more = [f"and {len(items) - MOST_NAMED} more"] if len(items) > MOST_NAMED else []
    evidence.note(*named, *more)


def place_words(place: Place) -> str:
    """Where a place is, in words that hold no secret."""
    below = f"{place.bucket}/{place.prefix.strip('/')}".rstrip("/")
    if place.kind == "s3":
        address = urlsplit(place.endpoint_url or "").netloc.rpartition("@")[2]
        return f"bucket {below} at {address or 'the default S3 end-point'}"
    return f"bucket {below} of the embedded store" if place.kind == "local" else f"folder {place.path}/{below}"
