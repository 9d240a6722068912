"""Objects of an S3 bucket read over sockets of our own: signed GETs, whole or in ranges, straight into files.

A third to a half faster than the transfer library on a machine where the store's answers, the copy and the program
share few cores, since no byte is copied twice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from runyard.stores.endpoints import CA_VARIABLE, DEFAULT_REGION, ca_pem, tls_context
from runyard.stores.errors import StoreError
from runyard.stores.faults import Asked, of_status, unreachable
from runyard.stores.http_reading import NotSpoken, Reply, Wires, goes_direct
from runyard.stores.s3_requests import code_of
from runyard.stores.sigv4 import encode_path, sign
from runyard.wire.orders import Place, Secret

READ_TIMEOUT_S = 30.0
_PAUSES_S = (0.0, 0.1, 0.4, 1.2, 3.0)
_MAX_REFUSAL = 64 * 1024


def reader_of(place: Place, address: str, ca_bundle: Path | None) -> S3Reader | None:
    """What reads objects of a place; None where a proxy is in between. ``address``: the end-point's, checked."""
    if not goes_direct(address):
        return None
    wires = _wires(address, ca_bundle, ca_pem(ca_bundle), os.environ.get(CA_VARIABLE))
    return S3Reader(wires, address, place.bucket, place.region or DEFAULT_REGION, place.secret)


@lru_cache(maxsize=64)
def _wires(address: str, ca_bundle: Path | None, _pem: str | None, _named: str | None) -> Wires:
    """Connections to one server, kept from one place to the next: what is sent on them is signed each by itself."""
    return Wires(address, tls_context(ca_bundle) if address.startswith("https:") else None, READ_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object as it was listed (``etag`` empty: any) and where its bytes go; ``heard`` is told how many came."""

    full: str
    size: int
    etag: str
    fd: int
    heard: Callable[[int], None]


class S3Reader:
    """GETs of one bucket."""

    def __init__(self, wires: Wires, address: str, bucket: str, region: str, secret: Secret | None) -> None:
        parts = urlsplit(address)
        self._wires = wires
        self._address = address
        self._bucket = bucket
        self._host = parts.netloc
        self._base = f"{parts.path}/{bucket}/"
        self._region = region
        self._secret = secret

    def write(self, wanted: Wanted, start: int, end: int) -> str:
        """Write one range of an object at its offset and give its etag back. A connection that breaks goes on where it
        stopped, a few times. Raises :class:`StoreError` and :class:`NotSpoken`."""
        at = start

        def heard(count: int) -> None:
            nonlocal at, tries
            at += count
            tries = iter(_PAUSES_S)
            wanted.heard(count)

        tries = iter(_PAUSES_S)
        while True:
            try:
                return self._once(wanted, at, end, heard, resumed=at > start)
            except StoreError as error:
                pause = next(tries, None)
                if error.definite or pause is None:
                    raise
            time.sleep(pause)

    def _once(self, wanted: Wanted, at: int, end: int, heard: Callable[[int], None], *, resumed: bool) -> str:
        asked = Asked(self._address, self._bucket, wanted.full)
        headers = {"If-Match": wanted.etag} if wanted.etag else {}
        whole = (at, end) == (0, wanted.size)
        if not whole:
            headers["Range"] = f"bytes={at}-{end - 1}"
        with self._wires.exchange(lambda: self._request(wanted.full, headers), asked) as reply:
            if reply.status not in (200, 206):
                raise of_status(reply.status, code_of(reply.read(_MAX_REFUSAL)), asked)
            if _total(reply) != str(wanted.size):
                raise of_status(412, "", asked)
            if reply.length != end - at:  # a server that knows of no ranges
                raise unreachable("connection closed", asked) if resumed else NotSpoken("the whole for a range")
            reply.write_to(wanted.fd, at, heard)
            return reply.header("etag")

    def _request(self, full: str, headers: dict[str, str]) -> bytes:
        path = self._base + full
        sent = headers | {"User-Agent": "runyard"}
        if self._secret is not None:
            now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            sent = sign("GET", self._host, path, {}, sent, b"", secret=self._secret, region=self._region, amz_date=now)
        lines = (f"{name}: {value}\r\n" for name, value in sent.items())
        return f"GET {encode_path(path)} HTTP/1.1\r\nHost: {self._host}\r\n{''.join(lines)}\r\n".encode()


def _total(reply: Reply) -> str:
    """The size of the whole object, as the answer tells it."""
    if reply.status == 206:
        return reply.header("content-range").rpartition("/")[2]
    return reply.header("content-length")


__all__ = ["NotSpoken", "S3Reader", "Wanted", "reader_of"]
