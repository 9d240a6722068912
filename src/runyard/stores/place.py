"""A place in an object store, whatever kind of store it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from runyard.wire.orders import Item

Target: TypeAlias = int | str | os.PathLike[str]
"""Where bytes go to or come from: an open file descriptor (its position is neither used nor moved) or a path."""


@dataclass(frozen=True, slots=True)
class EmbeddedAccess:
    """How to reach the server's embedded store: the server's base address and a token of scope ``node``."""

    url: str
    token: str = field(repr=False)


class PlaceStore(Protocol):
    """One bucket and prefix. All keys are below the prefix. Calls block and may come from any thread at once.

    Every call raises :class:`runyard.stores.StoreError`, and ``OSError`` for what happens to the local file.
    """

    def list(self, prefix: str = "", *, left_out: Callable[[str], None] | None = None) -> Sequence[Item]:
        """Every object whose key starts with ``prefix`` (a string, not only whole segments), sorted by key.

        Markers of empty folders are left out; so are other objects whose keys :func:`check_key` refuses, but these
        are named to ``left_out``. ``not_found`` when there is no such bucket.
        """
        ...

    def size_of(self, key: str) -> int | None:
        """Size in bytes, None when there is no such object or no such bucket."""
        ...

    def fetch(
        self,
        key: str,
        target: Target,
        *,
        size: int,
        etag: str = "",
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        """Write an object to ``target``, which is made (and cut to ``size``) when it is a path.

        ``size`` and ``etag`` are what the listing said; should the object not be that any more, ``changed`` is raised
        (what was written by then is worthless). ``on_bytes`` hears how many more bytes came, from any thread, and may
        raise to give up. Large objects come in several ranged requests at once.
        """
        ...

    def get_bytes(self, key: str, *, limit: int = 16 << 20) -> bytes:
        """A small object as a whole. ``invalid`` when it is larger than ``limit``."""
        ...

    def put_file(self, key: str, source: Target, size: int) -> None:
        """Store the first ``size`` bytes of a file as an object, in one piece or not at all.

        A file that turns out shorter is ``changed``. Memory stays bounded whatever the size.
        """
        ...

    def put_bytes(self, key: str, content: bytes) -> None:
        """Store a small object."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; one that is not there counts as removed."""
        ...

    def close(self) -> None:
        """Give connections back. The store is not used afterwards."""
        ...


@runtime_checkable
class ReadsMany(Protocol):
    """A :class:`PlaceStore` that gives many small objects in one answer."""

    def fetch_many(self, items: Sequence[Item], take: Callable[[Item, memoryview], None]) -> bool:
        """Hand the bytes of each object, in order, to ``take``; they are good for the time of the call.

        False: the server knows no such request; nothing was taken. Raises as :meth:`PlaceStore.fetch` does; what was
        taken by then is good. Together they should be a few MiB, and 1,000 at most.
        """
        ...
