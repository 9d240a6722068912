"""The embedded store as the server's end-points use it: accounts, buckets and objects, written and read in streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from runyard.stores.errors import StoreError

_BATCH = 1 << 20


@dataclass(frozen=True, slots=True)
class Blob:
    """One object. ``etag`` is in quotes, ready for the header, and changes whenever the content does."""

    key: str
    size: int
    etag: str
    modified_ms: int


class BlobWriter(Protocol):
    """An object that is being written; nobody sees it before :meth:`commit`. Leaving the block without that aborts."""

    @property
    def size(self) -> int:
        """Bytes written so far."""
        ...

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append."""
        ...

    def commit(self) -> Blob:
        """Make it durable and put it in the place of what was there, in one step."""
        ...

    def abort(self) -> None:
        """Forget it. Does nothing after :meth:`commit`."""
        ...

    def __enter__(self) -> BlobWriter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class BlobReader(Protocol):
    """An object opened for reading: what it was when it was opened, whatever is put or deleted afterwards."""

    @property
    def blob(self) -> Blob:
        """What was opened."""
        ...

    def read(self, start: int = 0, end: int | None = None, piece: int = 1 << 18) -> Iterator[bytes]:
        """The bytes from ``start`` to ``end`` (exclusive; None: to the last) in pieces; closes at its end."""
        ...

    def close(self) -> None:
        """Close it; a second time does nothing."""
        ...


class BlobStore(Protocol):
    """Objects of accounts. All calls block briefly and may come from any thread; all raise :class:`StoreError`.

    ``invalid``: a key or bucket that cannot be stored; ``not_found``: no such bucket or object; ``unreachable``: the
    disk is full.
    """

    def put(self, account: str, bucket: str, key: str) -> BlobWriter:
        """Begin to write an object; its bucket is made when it is committed."""
        ...

    def open(self, account: str, bucket: str, key: str) -> BlobReader:
        """Open an object."""
        ...

    def head(self, account: str, bucket: str, key: str) -> Blob:
        """What an object is."""
        ...

    def list(
        self, account: str, bucket: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Sequence[Blob]:
        """Objects whose keys start with ``prefix`` and sort after ``after``, by key, at most ``limit``."""
        ...

    def delete(self, account: str, bucket: str, key: str) -> bool:
        """Remove an object; False when it is not there."""
        ...

    def delete_prefix(self, account: str, bucket: str, prefix: str) -> int:
        """Remove all objects whose keys start with ``prefix`` and tell how many; with the empty prefix, the bucket
        too. 0 when there is no such bucket."""
        ...

    def buckets(self, account: str) -> Sequence[str]:
        """Names of the account's buckets, sorted."""
        ...

    def has_bucket(self, account: str, bucket: str) -> bool:
        """Whether the account has this bucket."""
        ...


async def receive(writer: BlobWriter, chunks: AsyncIterable[bytes], *, limit: int | None = None) -> None:
    """Write a stream (a request's body) without holding up the event loop; nothing is committed.

    Raises :class:`StoreError` (``invalid``) as soon as there are more than ``limit`` bytes.
    """
    batch = bytearray()
    async for chunk in chunks:
        batch += chunk
        if limit is not None and writer.size + len(batch) > limit:
            raise StoreError("invalid", f"The object is larger than the {limit} bytes allowed.")
        if len(batch) >= _BATCH:
            await asyncio.to_thread(writer.write, batch)
            batch = bytearray()
    if batch:
        await asyncio.to_thread(writer.write, batch)
