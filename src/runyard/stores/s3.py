"""A place in an S3 store: transfers by obstore, listings by :mod:`runyard.stores.s3_requests`."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from runyard.stores.endpoints import CA_VARIABLE, DEFAULT_REGION, ca_pem, s3_endpoint
from runyard.stores.errors import StoreError
from runyard.stores.faults import Asked, of_obstore, of_status, unreachable
from runyard.stores.keys import check_key, join, listed
from runyard.stores.local_files import open_source, open_target, pieces, read_full, write_all
from runyard.stores.place import Target
from runyard.stores.ranges import Ranges
from runyard.stores.s3_reading import NotSpoken, S3Reader, Wanted, reader_of
from runyard.stores.s3_requests import S3Requests
from runyard.wire.orders import Item, Place, Secret

if TYPE_CHECKING:  # these names exist in obstore's stubs alone
    from obstore import GetOptions, GetResult
    from obstore.store import ClientConfig, RetryConfig, S3Credential

CHUNK = 16 << 20
"""Objects over this size come in several ranged requests at once."""
LONGEST = 64 << 20
"""Ranges of very large objects: each request costs the store a look for what it has just been at."""
HELPERS = 7
"""Threads for ranges, beside that of whoever fetches."""
PART = 8 << 20
"""Files over this size go in parts of it (S3 takes 10,000 parts, so larger ones grow with the file)."""
PARTS_AT_ONCE = 4
READ_TIMEOUT_S = 30
_MAX_PARTS = 9_000
_SIP = 1 << 20
_PASSED_ON = 1 << 17
"""Whoever it is passed on to may stop reading, and a piece stays in memory then."""


class S3Place:
    """One bucket and prefix of an S3 end-point, path style. Nothing is read from ``AWS_*`` variables that the place
    says itself: address, region, keys and their absence."""

    def __init__(self, place: Place, ca_bundle: Path | None = None) -> None:
        self._address = s3_endpoint(place.endpoint_url, place.region)
        self._place = place
        self._requests = S3Requests(place, ca_bundle)
        region = place.region or DEFAULT_REGION
        trusted = (ca_pem(ca_bundle), os.environ.get(CA_VARIABLE))
        self._client = _Client(self._address, place.bucket, region, place.secret, trusted)
        self._ranges = Ranges(CHUNK, HELPERS)
        self._direct = reader_of(place, self._address, ca_bundle)

    @property
    def _reader(self) -> S3Store:
        # A stalled answer is noticed within 30 s.
        return _opened(self._client, READ_TIMEOUT_S)

    @property
    def _writer(self) -> S3Store:
        # Without that limit: it would count from the first byte sent.
        return _opened(self._client, None)

    def list(self, prefix: str = "", *, left_out: Callable[[str], None] | None = None) -> Sequence[Item]:
        """See :class:`runyard.stores.PlaceStore`."""
        below = join(self._place.prefix, "")
        return listed(self._requests.list_all(below + prefix), below, left_out)

    def size_of(self, key: str) -> int | None:
        """See :class:`runyard.stores.PlaceStore`."""
        full = self._full(key)
        try:
            with self.asking(full):
                return obstore.head(self._reader, full)["size"]
        except StoreError as error:
            if error.kind == "not_found":
                return None
            raise

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
        full, etag = self._full(key), "" if etag.startswith("W/") else etag
        with open_target(target, size) as fd:
            if self._direct is not None:
                came = 0

                def heard(count: int) -> None:
                    nonlocal came
                    came += count
                    if on_bytes:
                        on_bytes(count)

                try:
                    self._fetch_direct(self._direct, Wanted(full, size, etag, fd, heard))
                    return
                except NotSpoken:  # the library knows more of HTTP
                    if on_bytes:
                        on_bytes(-came)
            self._fetch_by_library(_Fetch(self, full, size, etag, on_bytes), fd, size)

    def _fetch_direct(self, reader: S3Reader, wanted: Wanted) -> None:
        if wanted.size <= CHUNK:
            reader.write(wanted, 0, wanted.size)
            return
        done = 0
        if not wanted.etag:  # that of the first answer holds for the others
            etag = reader.write(wanted, 0, done := CHUNK)
            wanted = replace(wanted, etag="" if etag.startswith("W/") else etag)
        span_size = min(max(CHUNK, wanted.size // (HELPERS + 1)), LONGEST)
        self._ranges.each(done, wanted.size, lambda span: reader.write(wanted, *span), span_size)

    def _fetch_by_library(self, fetch: _Fetch, fd: int, size: int) -> None:
        fetch.write(fd, 0, min(size, CHUNK))
        if size > CHUNK:
            self._ranges.each(CHUNK, size, lambda span: fetch.write(fd, *span))

    def get(self, full: str, options: GetOptions) -> GetResult:
        """Begin to read an object of the bucket."""
        with self.asking(full):
            return obstore.get(self._reader, full, options=options)

    def stream(self, key: str) -> tuple[int, Iterator[bytes]]:
        """Size of an object and its bytes in pieces of about 128 KiB, to be passed on."""
        full = self._full(key)
        answer = self.get(full, {})
        return answer.meta["size"], self.sips(answer, full, _PASSED_ON)

    def sips(self, answer: GetResult, full: str, size: int = _SIP) -> Iterator[bytes]:
        """The bytes of an answer in pieces of about ``size``."""
        with self.asking(full):
            yield from answer.stream(min_chunk_size=size)

    def get_bytes(self, key: str, *, limit: int = 16 << 20) -> bytes:
        """See :class:`runyard.stores.PlaceStore`."""
        full = self._full(key)
        answer = self.get(full, {})
        if answer.meta["size"] > limit:
            raise StoreError("invalid", f"The object {full!r} is larger than the {limit} bytes expected of it.")
        with self.asking(full):
            return bytes(answer.bytes())

    def put_file(self, key: str, source: Target, size: int) -> None:
        """See :class:`runyard.stores.PlaceStore`."""
        full = self._full(key)
        with open_source(source) as fd:
            if size <= PART:
                self._put(full, read_full(fd, size, 0))
                return
            part = max(PART, -(-size // _MAX_PARTS))
            at_once = max(1, PARTS_AT_ONCE * PART // part)
            with self.asking(full):
                obstore.put(self._writer, full, pieces(fd, size, part), chunk_size=part, max_concurrency=at_once)

    def put_bytes(self, key: str, content: bytes) -> None:
        """See :class:`runyard.stores.PlaceStore`."""
        self._put(self._full(key), content)

    def _put(self, full: str, content: bytes) -> None:
        with self.asking(full):
            obstore.put(self._writer, full, content, use_multipart=False)

    def delete(self, keys: Sequence[str]) -> None:
        """See :class:`runyard.stores.PlaceStore`."""
        full = [self._full(key) for key in keys]
        for start in range(0, len(full), 1000):
            with self.asking(""):
                obstore.delete(self._writer, full[start : start + 1000])

    def close(self) -> None:
        """See :class:`runyard.stores.PlaceStore`."""
        self._ranges.close()

    def _full(self, key: str) -> str:
        return join(self._place.prefix, check_key(key))

    def asked(self, full: str) -> Asked:
        """How to name an object in a sentence."""
        return Asked(self._address, self._place.bucket, full)

    @contextmanager
    def asking(self, full: str) -> Generator[None, None, None]:
        """Turn what obstore raises into a :class:`StoreError`."""
        try:
            yield
        except (BaseError, FileNotFoundError, ValueError) as error:
            raise of_obstore(error, self.asked(full)) from None


class _Fetch:
    """One object on its way to a file."""

    def __init__(self, place: S3Place, full: str, size: int, etag: str, on_bytes: Callable[[int], None] | None) -> None:
        self._place = place
        self._full = full
        self._size = size
        self._etag = etag
        self._on_bytes = on_bytes

    def write(self, fd: int, start: int, end: int) -> None:
        """Write one range of the object at its offset."""
        options: GetOptions = {}
        if (start, end) != (0, self._size):
            options["range"] = (start, end)
        if self._etag:
            options["if_match"] = self._etag
        answer = self._place.get(self._full, options)
        if answer.meta["size"] != self._size:
            raise of_status(412, "", self._place.asked(self._full))
        self._etag = self._etag or answer.meta["e_tag"] or ""
        at = start
        for sip in self._place.sips(answer, self._full):
            write_all(fd, sip, at)
            at += len(sip)
            if self._on_bytes:
                self._on_bytes(len(sip))
        if at != end:
            raise unreachable("connection closed", self._place.asked(self._full))


@dataclass(frozen=True, slots=True)
class _Client:
    """What tells one client of the transfer library from another."""

    address: str
    bucket: str
    region: str
    secret: Secret | None
    trusted: tuple[str | None, str | None]


@lru_cache(maxsize=64)
def _opened(client: _Client, read_timeout_s: int | None) -> S3Store:
    """A client, made once: that takes some 20 ms, and its connections are kept alive from one place to the next."""
    options: ClientConfig = {
        "allow_http": True,
        "connect_timeout": timedelta(seconds=5),
        "timeout": timedelta(minutes=30),
        "user_agent": "runyard",
    }
    if read_timeout_s is not None:
        options["read_timeout"] = timedelta(seconds=read_timeout_s)
    if client.trusted[0] is not None:
        options["root_certificate"] = client.trusted[0]
    retry: RetryConfig = {
        "max_retries": 5,
        "retry_timeout": timedelta(seconds=30),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=4),
            "base": 2,
        },
    }
    try:
        return S3Store(
            client.bucket,
            endpoint=client.address,
            aws_endpoint_url_s3=client.address,
            region=client.region,
            virtual_hosted_style_request=False,
            skip_signature=client.secret is None,
            client_options=options,
            retry_config=retry,
            credential_provider=None if client.secret is None else _Static(client.secret),
        )
    except (BaseError, ValueError) as error:
        sentence = f"No client can be made for {client.address}: check the address and the certificates."
        raise StoreError("invalid", sentence) from error


class _Static:
    """Credentials that never expire, handed over so that nothing of the environment is mixed in."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def __call__(self) -> S3Credential:
        secret = self._secret
        return {
            "access_key_id": secret.access_key_id,
            "secret_access_key": secret.secret_access_key,
            "token": secret.session_token,
            "expires_at": None,
        }

    def __repr__(self) -> str:
        return "_Static(***)"
