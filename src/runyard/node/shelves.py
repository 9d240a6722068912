"""Which objects the views in the cache have, so that a new view takes from them what it shares with them.

An object is known by its store (kind and end-point; the account for the embedded one, never credentials), bucket, key,
etag and size. There is no other place for objects than the views themselves: see decision 19.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from runyard.stores.endpoints import s3_endpoint
from runyard.stores.keys import join
from runyard.wire.orders import Item, Place

ENDING = ".items"


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a view is: where its objects are from, and how many there are.

    ``shelf``: store and bucket, hashed; ``address``: the end-point, empty for the embedded store; ``account``: whose
    run had it made; ``sealed_ns``: a file that changed after this time was changed by somebody else.
    """

    shelf: str
    kind: str
    bucket: str
    prefix: str
    address: str
    account: str
    objects: int
    size: int
    sealed_ns: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """A file that has an object's bytes, the view that it is in, and the time after which it must not have changed."""

    view: str
    path: str
    sealed_ns: int


def address_of(place: Place) -> str:
    """The end-point of an S3 store as everybody would write it; empty for other kinds."""
    return s3_endpoint(place.endpoint_url, place.region).lower() if place.kind == "s3" else ""


def shelf_of(place: Place) -> str:
    """Store and bucket of a place, hashed: 32 hexadecimal digits."""
    account = place.account if place.kind == "local" else ""
    text = "\0".join((place.kind, address_of(place), account, place.bucket))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def head_of(place: Place, items: Sequence[Item]) -> Head:
    """What a view of a listing will be."""
    size = sum(item.size for item in items)
    prefix = place.prefix.strip("/")
    return Head(shelf_of(place), place.kind, place.bucket, prefix, address_of(place), place.account, len(items), size)


class Shelves:
    """The views in the folder ``data`` of a cache, by key."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lock = threading.Condition()
        self._heads: dict[str, Head] = {}
        self._claims: list[tuple[str, set[str]]] = []
        for name in os.listdir(folder):
            if name.endswith(ENDING):
                self._read(name.removesuffix(ENDING))

    def _read(self, key: str) -> None:
        try:
            with open(f"{self._folder}/{key}{ENDING}", "rb") as file:
                self._heads[key] = msgspec.json.decode(file.readline(), type=Head)
        except (OSError, msgspec.DecodeError):
            pass  # a view that nobody can take from: it goes when its time has come

    def head(self, key: str) -> Head | None:
        """What a view is, if it is known."""
        return self._heads.get(key)

    def put(self, key: str, head: Head, items: Iterable[Item]) -> None:
        """A view is about to be there. Those of its objects that have an etag can be taken from it."""
        told = [(join(head.prefix, item.key), item.size, item.etag) for item in items if item.etag]
        with open(f"{self._folder}/{key}{ENDING}", "wb") as file:
            file.write(msgspec.json.encode(head) + b"\n" + msgspec.json.encode(told))
        with self._lock:
            self._heads[key] = head

    def forget(self, key: str) -> None:
        """A view is there no longer."""
        with self._lock:
            self._heads.pop(key, None)
        try:
            os.unlink(f"{self._folder}/{key}{ENDING}")
        except FileNotFoundError:
            pass  # it was of the kind that has none

    def heirs(self, key: str) -> list[str]:
        """The other views of the same shelf."""
        with self._lock:
            own = self._heads.get(key)
            return [other for other, head in self._heads.items() if own and other != key and head.shelf == own.shelf]

    def find(self, place: Place, items: Sequence[Item]) -> dict[str, Source]:
        """Where objects of a listing are already, by their keys in the listing."""
        shelf = shelf_of(place)
        with self._lock:
            views = [(key, head) for key, head in self._heads.items() if head.shelf == shelf]
        wanted = {(join(place.prefix, item.key), item.size, item.etag): item.key for item in items if item.etag}
        found: dict[str, Source] = {}
        for key, head in reversed(views):  # the newest is likely to have most
            if not wanted:
                break
            below = len(join(head.prefix, ""))
            for full, size, etag in self._items(key):
                wish = wanted.pop((full, size, etag), None)
                if wish is not None:
                    view = f"{self._folder}/{key}"
                    found[wish] = Source(view, f"{view}/{full[below:]}", head.sealed_ns)
        return found

    def _items(self, key: str) -> list[tuple[str, int, str]]:
        try:
            with open(f"{self._folder}/{key}{ENDING}", "rb") as file:
                file.readline()
                return msgspec.json.decode(file.read(), type=list[tuple[str, int, str]])
        except (OSError, msgspec.DecodeError):
            return []

    @contextmanager
    def claiming(self, place: Place, items: Sequence[Item]) -> Generator[None, None, None]:
        """Hold objects while they are fetched: who wants one of them too waits, and then finds it."""
        shelf, keys = shelf_of(place), {f"{join(place.prefix, item.key)}\0{item.etag}" for item in items if item.etag}
        claim = (shelf, keys)
        with self._lock:
            self._lock.wait_for(lambda: all(other != shelf or keys.isdisjoint(held) for other, held in self._claims))
            self._claims.append(claim)
        try:
            yield
        finally:
            with self._lock:
                self._claims = [each for each in self._claims if each is not claim]
                self._lock.notify_all()
