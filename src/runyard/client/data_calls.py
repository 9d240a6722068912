"""Calls about the embedded store: buckets and objects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast
from urllib.parse import quote

from runyard.client.calls import UPLOAD_LIMIT, Calls, Progress, Watched
from runyard.client.decode import Json, as_object, children, text
from runyard.client.later import Later
from runyard.client.transport import Body, Request, Stream, path_of

if TYPE_CHECKING:
    from runyard.client import account_records
    from runyard.client.account_records import NodeCache, StoredObject
else:
    account_records = Later("runyard.client.account_records")


class DataCalls(Calls):
    """Buckets and objects of the embedded store."""

    def buckets(self) -> tuple[str, ...]:
        """The names of the account's buckets."""
        return tuple(text(each, "name") for each in children(self._get("/data"), "items"))

    def objects(self, bucket: str, prefix: str = "", *, limit: int | None = None) -> Iterator[StoredObject]:
        """The objects below a prefix, in the order of their keys, fetched page by page."""
        pages = self._pages(path_of("data", bucket), {"prefix": prefix or None}, limit)
        return (account_records.StoredObject.of(each) for each in pages)

    def put_object(
        self, bucket: str, key: str, source: Path | bytes, *, progress: Progress | None = None
    ) -> StoredObject:
        """Store a file or bytes under a key, replacing what was there; makes the bucket."""
        size = len(source) if isinstance(source, bytes) else source.stat().st_size

        def opened() -> BinaryIO:
            reader = BytesIO(source) if isinstance(source, bytes) else source.open("rb")
            return reader if progress is None else cast("BinaryIO", Watched(reader, size, progress))

        request = Request("PUT", _object_path(bucket, key), {}, {}, Body(size, opened), read_limit=UPLOAD_LIMIT)
        return account_records.StoredObject.of(as_object(self._transport.call(request).json()))

    def has_object(self, bucket: str, key: str) -> bool:
        """Whether there is such an object."""
        request = Request("HEAD", _object_path(bucket, key))
        return self._transport.call(request, accept=frozenset({404})).status != 404

    def read_object(self, bucket: str, key: str, *, offset: int = 0) -> AbstractContextManager[Stream]:
        """The bytes of an object from ``offset`` on, as they come."""
        headers = {"Accept": "*/*"} | ({"Range": f"bytes={offset}-"} if offset else {})
        return self._transport.stream(Request("GET", _object_path(bucket, key), {}, headers))

    def delete_object(self, bucket: str, key: str) -> None:
        """Remove one object."""
        self._transport.call(Request("DELETE", _object_path(bucket, key)))

    def delete_objects(self, bucket: str, prefix: str = "") -> int:
        """Remove all below a prefix (all of the bucket, without one); how many were removed."""
        answer = self._transport.call(Request("DELETE", path_of("data", bucket), {"prefix": prefix}))
        count = answer.headers.get("runyard-deleted", "")
        return int(count) if count.isdigit() else 0

    def caches(self) -> tuple[NodeCache, ...]:
        """What each machine's cache holds of data."""
        return _caches(self._get("/cache"))

    def change_caches(
        self, action: Literal["pin", "unpin", "clear"], bucket: str | None = None
    ) -> tuple[NodeCache, ...]:
        """Pin a bucket on every machine, let it go, or remove what nothing uses (for an admin); what is there then."""
        return _caches(self._send("POST", "/cache", {"action": action, "bucket": bucket}, repeatable=True))


def _caches(answer: Json) -> tuple[NodeCache, ...]:
    return tuple(account_records.NodeCache.of(each) for each in children(answer, "nodes"))


def _object_path(bucket: str, key: str) -> str:
    return path_of("data", bucket) + "/" + quote(key)


def bucket_name(text: str) -> str:
    """A name that a bucket can have, made of any text, e.g. a folder's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[:63] or "data"
