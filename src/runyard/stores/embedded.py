"""A place in the server's embedded store, over its HTTP end-points for nodes (see ``docs/api.md``)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import quote, urlencode, urlsplit

from runyard.stores.connections import Connections
from runyard.stores.endpoints import http_address, tls_context
from runyard.stores.errors import StoreError
from runyard.stores.faults import Asked, of_status
from runyard.stores.keys import check_bucket, check_key, join, listed
from runyard.stores.local_files import open_source, open_target, pieces, write_all
from runyard.stores.place import EmbeddedAccess, Target
from runyard.stores.ranges import Ranges
from runyard.wire.orders import Item, Place

CHUNK = 16 << 20
"""Objects over this size come in several ranged requests at once."""
_SIP = 1 << 20
_PAUSES_S = (0.0, 0.1, 0.5, 2.0)
"""Before each new try. The first follows at once: a connection kept alive may have been closed meanwhile."""

Got = TypeVar("Got")


class EmbeddedPlace:
    """One bucket and prefix of the embedded store of an account."""

    def __init__(self, place: Place, access: EmbeddedAccess, ca_bundle: Path | None = None) -> None:
        self._address = http_address(access.url, "server's address")
        self._bucket = check_bucket(place.bucket)
        self._prefix = place.prefix
        self._account = place.account
        self._base = f"/api/v1/node/data/{quote(check_key(place.account), safe='')}/{quote(place.bucket, safe='')}"
        context = tls_context(ca_bundle) if urlsplit(self._address).scheme == "https" else None
        self._connections = Connections(self._address, access.token, context)
        self._ranges = Ranges(CHUNK, helpers=2)

    def list(self, prefix: str = "", *, left_out: Callable[[str], None] | None = None) -> Sequence[Item]:
        """See :class:`runyard.stores.PlaceStore`."""
        below = join(self._prefix, "")
        items: list[Item] = []
        cursor: str | None = None
        while True:
            query = {"prefix": below + prefix, "limit": "1000"} | ({"cursor": cursor} if cursor else {})
            path = f"{self._base}?{urlencode(query, quote_via=quote)}"
            page, cursor = self._page_of(_patiently(lambda path=path: self._whole(path, self._asked(""), 64 << 20)))
            items.extend(page)
            if cursor is None:
                return listed(items, below, left_out)

    def _page_of(self, document: bytes) -> tuple[list[Item], str | None]:
        try:
            page = cast("dict[str, object]", json.loads(document))
            entries = cast("list[dict[str, str]]", page["items"])
            items = [Item(entry["key"], int(entry["size"]), entry["etag"]) for entry in entries]
            return items, cast("str | None", page["next"])
        except (ValueError, KeyError, TypeError):
            raise StoreError("unreachable", f"What answers at {self._address} is not a Runyard server.") from None

    def size_of(self, key: str) -> int | None:
        """See :class:`runyard.stores.PlaceStore`."""
        path, asked = self._object(key)
        try:
            return _patiently(lambda: self._head(path, asked))
        except StoreError as error:
            if error.kind == "not_found":
                return None
            raise

    def _head(self, path: str, asked: Asked) -> int:
        with self._connections.exchange("HEAD", path, asked) as answer:
            answer.read()
            return int(answer.header("Content-Length"))

    def fetch(
        self,
        key: str,
        target: Target,
        *,
        size: int,
        etag: str = "",
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        """See :class:`runyard.stores.PlaceStore`."""
        path, asked = self._object(key)
        with open_target(target, size) as fd:

            def fetch(span: tuple[int, int], etag: str) -> str:
                part = _Part(self._connections, path, asked, size, etag, span)
                return _patiently(lambda: part.write(fd, on_bytes))

            if size <= CHUNK or not etag:  # without one from the listing, that of the first answer holds for the others
                etag = fetch((0, min(size, CHUNK)), etag)
                self._ranges.each(min(size, CHUNK), size, lambda span: fetch(span, etag))
            else:
                self._ranges.each(0, size, lambda span: fetch(span, etag))

    def fetch_many(self, items: Sequence[Item], take: Callable[[Item, memoryview], None]) -> bool:
        """See :class:`runyard.stores.place.ReadsMany`."""
        wanted = [[join(self._prefix, check_key(item.key)), item.size, item.etag.strip('"')] for item in items]
        body = json.dumps([self._account, self._bucket, wanted]).encode()
        answer = _patiently(lambda: self._read_many(body))
        if answer is None:
            return False
        line, _, content = answer.partition(b"\n")
        rest, at = memoryview(content), 0
        try:
            sizes = cast("list[int]", json.loads(line))
        except ValueError:
            raise StoreError("unreachable", f"What answers at {self._address} is not a Runyard server.") from None
        for item, size in zip(items, sizes, strict=True):
            if size < 0:
                raise of_status(404 if size == -1 else 412, "", self._asked(join(self._prefix, item.key)))
            take(item, rest[at : at + size])
            at += size
        return True

    def _read_many(self, body: bytes) -> bytes | None:
        """The answer of a server that knows how to; None from another."""
        asked = self._asked("objects")
        try:
            with self._connections.exchange(
                "POST", "/api/v1/node/objects/read", asked, body=(body,), length=len(body)
            ) as answer:
                return answer.read()
        except StoreError as error:
            if error.kind in ("not_found", "invalid"):
                return None
            raise

    def get_bytes(self, key: str, *, limit: int = 16 << 20) -> bytes:
        """See :class:`runyard.stores.PlaceStore`."""
        path, asked = self._object(key)
        return _patiently(lambda: self._whole(path, asked, limit))

    def _whole(self, path: str, asked: Asked, limit: int) -> bytes:
        with self._connections.exchange("GET", path, asked) as answer:
            if int(answer.header("Content-Length") or 0) > limit:
                raise StoreError("invalid", f"The object {asked.key!r} is larger than the {limit} bytes expected.")
            return answer.read()

    def put_file(self, key: str, source: Target, size: int) -> None:
        """See :class:`runyard.stores.PlaceStore`."""
        path, asked = self._object(key)
        with open_source(source) as fd:
            _patiently(lambda: self._put(path, asked, pieces(fd, size, _SIP), size))

    def put_bytes(self, key: str, content: bytes) -> None:
        """See :class:`runyard.stores.PlaceStore`."""
        path, asked = self._object(key)
        _patiently(lambda: self._put(path, asked, (content,), len(content)))

    def _put(self, path: str, asked: Asked, body: Iterable[bytes], length: int) -> None:
        with self._connections.exchange("PUT", path, asked, body=body, length=length) as answer:
            answer.read()

    def delete(self, keys: Sequence[str]) -> None:
        """See :class:`runyard.stores.PlaceStore`."""
        for path, asked in [self._object(key) for key in keys]:
            try:
                _patiently(lambda path=path, asked=asked: self._remove(path, asked))
            except StoreError as error:
                if error.kind != "not_found":
                    raise

    def _remove(self, path: str, asked: Asked) -> None:
        with self._connections.exchange("DELETE", path, asked) as answer:
            answer.read()

    def close(self) -> None:
        """See :class:`runyard.stores.PlaceStore`."""
        self._ranges.close()
        self._connections.close()

    def _object(self, key: str) -> tuple[str, Asked]:
        full = join(self._prefix, check_key(key))
        return f"{self._base}/{quote(full, safe='/')}", self._asked(full)

    def _asked(self, full: str) -> Asked:
        return Asked(self._address, self._bucket, full)


class _Part:
    """A range of an object on its way to a file; a broken connection goes on where it stopped."""

    def __init__(
        self, connections: Connections, path: str, asked: Asked, size: int, etag: str, span: tuple[int, int]
    ) -> None:
        self._connections = connections
        self._path = path
        self._asked = asked
        self._size = size
        self._etag = etag
        self._at, self._end = span

    def write(self, fd: int, on_bytes: Callable[[int], None] | None) -> str:
        """Fetch what is missing of the range and give back the etag for further ones.

        Raises ``unreachable`` when it broke off: call again.
        """
        headers = {"If-Match": self._etag if self._etag.startswith('"') else f'"{self._etag}"'} if self._etag else {}
        whole = (self._at, self._end) == (0, self._size)
        if not whole:
            headers["Range"] = f"bytes={self._at}-{self._end - 1}"
        with self._connections.exchange("GET", self._path, self._asked, headers) as answer:
            total = answer.header("Content-Range").rpartition("/")[2] if not whole else answer.header("Content-Length")
            if total != str(self._size):
                raise of_status(412, "", self._asked)
            self._etag = self._etag or answer.header("ETag")
            for sip in answer.sips():
                write_all(fd, sip, self._at)
                self._at += len(sip)
                if on_bytes:
                    on_bytes(len(sip))
        if self._at != self._end:  # a server that ignored the range
            raise of_status(412, "", self._asked)
        return self._etag


def _patiently(attempt: Callable[[], Got]) -> Got:
    """Try again a few times while the server cannot be reached."""
    for pause in _PAUSES_S:
        try:
            return attempt()
        except StoreError as error:
            if error.definite:
                raise
        time.sleep(pause)
    return attempt()
