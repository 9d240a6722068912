"""The embedded object store: buckets of each account as folders of the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object: its key in the bucket, size in bytes, etag (changes with the content), time of its last change."""

    key: str
    size: int
    etag: str
    modified_ms: int


@dataclass(frozen=True, slots=True)
class SmallObject:
    """One object with its content, to be stored together with others."""

    account: str
    bucket: str
    key: str
    content: bytes | memoryview


class ObjectWriter(Protocol):
    """One object being written; nothing of it is seen before :meth:`commit`."""

    def write(self, chunk: bytes) -> None:
        """Add bytes."""
        ...

    def commit(self) -> StoredObject:
        """Make it durable and seen, in the place of an older one."""
        ...

    def abort(self) -> None:
        """Forget it. After a commit this does nothing."""
        ...


class EmbeddedStore(Protocol):
    """Buckets of accounts. Hostile names raise ``core.errors.StoreUnavailable`` with code ``invalid_request``."""

    def buckets(self, account: str) -> Sequence[str]:
        """Names of the account's buckets, sorted."""
        ...

    def put(self, account: str, bucket: str, key: str) -> ObjectWriter:
        """Begin to write an object; the bucket is made when it is not there."""
        ...

    def put_all(self, objects: Sequence[SmallObject]) -> Sequence[StoredObject | str]:
        """Write small objects, each of them whole or not at all; all are durable when this returns. What was stored of
        each, or a sentence on why it was not."""
        ...

    def head(self, account: str, bucket: str, key: str) -> StoredObject | None:
        """One object, None when there is none."""
        ...

    def open(self, account: str, bucket: str, key: str) -> tuple[BinaryIO, StoredObject] | None:
        """One object's file, open for reading and seeking; None when there is none."""
        ...

    def list(
        self, account: str, bucket: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> Sequence[StoredObject] | None:
        """Objects whose key begins with ``prefix`` and comes after ``after``, sorted; None when there is no bucket."""
        ...

    def delete(self, account: str, bucket: str, key: str) -> bool:
        """Delete one object; False when there was none."""
        ...

    def delete_prefix(self, account: str, bucket: str, prefix: str) -> int:
        """Delete all objects whose key begins with ``prefix`` (all of the bucket, and it, for an empty one)."""
        ...
