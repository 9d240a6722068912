"""What the caches of nodes hold of data, as the nodes tell it when they are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class CacheAction(StrEnum):
    """What a node can be asked to do with its cache; each ends with its telling what it holds."""

    tell = "tell"
    pin = "pin"
    unpin = "unpin"
    clear = "clear"
    expire = "expire"
    expirable = "expirable"


@dataclass(frozen=True, slots=True)
class Ages:
    """For how many milliseconds after its last use an entry is kept (0: for ever): code and data, environments."""

    data_ms: int = 0
    environments_ms: int = 0


NO_AGES: Final = Ages()


@dataclass(frozen=True, slots=True)
class CachedData:
    """A listing of a bucket that is there as a folder. ``account``: whose run had it fetched; ``address``: end-point of
    the store, empty for the embedded one; ``size``: bytes of all its objects, ``own``: those that are counted for it
    and for no other; ``in_use``: runs on the machine work with it."""

    kind: str
    address: str
    bucket: str
    prefix: str
    account: str
    objects: int
    size: int
    own: int
    used_ms: int
    pinned: bool
    in_use: bool


@dataclass(frozen=True, slots=True)
class CacheContent:
    """What one node's cache holds: bytes of everything, its limit, the data last used first (the first thousand), and
    the buckets whose data stay. ``removed``: entries that a clearing has just taken away (with
    ``expirable``: would), ``removed_bytes`` of the disk. ``kinds``: bytes of code, data, environments and folders of
    runs; ``free`` and ``total``: of the disk."""

    size: int
    limit: int
    items: tuple[CachedData, ...]
    pins: tuple[str, ...]
    removed: int = 0
    removed_bytes: int = 0
    kinds: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    free: int = 0
    total: int = 0
