"""Training data: from the references of a spec to read-only folders."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from runyard.node.access import StoreAccess
from runyard.node.cache import Cache, remove_tree
from runyard.node.evidence import Evidence, human
from runyard.node.lanes import Crew
from runyard.node.parallel import WIDTH, Patience
from runyard.node.ready import Reference
from runyard.node.views import SEALED, Fetching, folder_of, merge, seal, usable, view_key
from runyard.stores.errors import StoreError
from runyard.wire.orders import Item, Part, Place

MOST_NAMED = 1000
"""Objects of a data reference that the evidence names."""
OnBytes = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class StagedData:
    """All data of a spec. ``folder`` is ``DATA_DIR`` (None: no data); ``entries`` are the cache's folders in use;
    ``fetched`` is in bytes."""

    folder: str | None
    references: tuple[Reference, ...]
    entries: tuple[str, ...]
    fetched: int


class DataFetcher:
    """Makes views of data in the cache."""

    def __init__(self, cache: Cache, access: StoreAccess, patience_s: float) -> None:
        self._cache = cache
        self._access = access
        self._patience_s = patience_s
        self._crew = Crew("fetch", WIDTH + WIDTH // 2)

    def stage_all(self, parts: Sequence[Part], spec: str, evidence: Evidence, on_bytes: OnBytes) -> StagedData:
        """Make every reference ready, and a merged view where there are several.

        ``spec``: the spec's fingerprint. Raises :class:`StoreError`, or ``OSError`` for our own disk.
        """
        references: list[Reference] = []
        entries: list[str] = []
        fetched = 0
        for number, part in enumerate(parts, start=1):
            name = part.place.name or part.place.bucket or str(number)
            if part.place.kind == "volume":
                path = self._volume(part.place, name, evidence)
            else:
                path, size = self._view(part, name, spec, evidence, on_bytes)
                entries.append(path)
                fetched += size
            references.append(Reference(name, path))
        folder = references[0].path if references else None
        if len(references) > 1:
            folder = self._merged(references, spec, evidence)
            entries.append(folder)
        return StagedData(folder, tuple(references), tuple(entries), fetched)

    def _volume(self, place: Place, name: str, evidence: Evidence) -> str:
        try:
            path = folder_of(place, self._access.host_paths)
        except StoreError as error:
            evidence.note(error.message)
            raise StoreError("not_found", error.message) from None
        evidence.note(f"Data reference {name!r} is the folder {path} of this machine, read in place.")
        return path

    def _view(self, part: Part, name: str, spec: str, evidence: Evidence, on_bytes: OnBytes) -> tuple[str, int]:
        key = view_key(part, spec)
        total = sum(item.size for item in part.items)
        words = f"Data reference {name!r}, {place_words(part.place)}: {len(part.items)} objects, {human(total)}"
        with self._cache.making("data", key):
            if self._cache.has("data", key):
                evidence.note(f"{words}. It is in this machine's cache, nothing is fetched.")
                name_all(part.items, evidence)
                on_bytes(total)
                return self._cache.path("data", key), 0
            evidence.note(f"{words}. Fetching.")
            name_all(part.items, evidence)
            began = time.monotonic()
            path = self._fetch(part, key, evidence, on_bytes)
        took = time.monotonic() - began
        evidence.note(f"Fetched {human(total)} in {took:.2f} s ({human(int(total / max(took, 0.001)))} a second).")
        return path, total

    def _fetch(self, part: Part, key: str, evidence: Evidence, on_bytes: OnBytes) -> str:
        items = usable(part.items, evidence)
        size = sum(item.size for item in items)
        folder = self._cache.temporary()
        try:
            room = os.statvfs(folder)
            if size > room.f_bavail * room.f_frsize:
                raise OSError(
                    28, f"the data need {human(size)} and the disk has {human(room.f_bavail * room.f_frsize)}"
                )
            store = self._access.open(part.place)
            try:
                fetching = Fetching(store, evidence, Patience(self._patience_s), on_bytes)
                fetching.fetch_all(self._crew, items, folder)
            finally:
                store.close()
            seal(folder)
            return self._cache.keep(folder, "data", key, size, SEALED)
        except StoreError as error:
            remove_tree(folder)
            evidence.note(f"Given up: {error.message}")
            raise
        except BaseException:
            remove_tree(folder)
            raise

    def _merged(self, references: Sequence[Reference], spec: str, evidence: Evidence) -> str:
        sources = [(reference.name, reference.path) for reference in references]
        inside = all(path.startswith(self._cache.path("data", "")) for _, path in sources)
        text = "\0".join([*(path for _, path in sources), "" if inside else spec])
        return merge(self._cache, sources, hashlib.sha256(text.encode()).hexdigest(), evidence)


def name_all(items: Sequence[Item], evidence: Evidence) -> None:
    """Put down what was listed: each object with its size and etag, up to so many."""
    for item in items[:MOST_NAMED]:
        evidence.note(f"{item.key[:300]!r}: {item.size} bytes" + (f", etag {item.etag}" if item.etag else ""))
    if len(items) > MOST_NAMED:
        evidence.note(f"and {len(items) - MOST_NAMED} more")


def place_words(place: Place) -> str:
    """Where a place is, in words that hold no secret."""
    below = f"{place.bucket}/{place.prefix.strip('/')}".rstrip("/")
    if place.kind == "s3":
        address = urlsplit(place.endpoint_url or "").netloc.rpartition("@")[2]
        return f"bucket {below} at {address or 'the default S3 end-point'}"
    return f"bucket {below} of the embedded store" if place.kind == "local" else f"folder {place.path}/{below}"
