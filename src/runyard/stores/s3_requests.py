"""Signed requests to one S3 bucket for what the transfer library does not tell: listings as they are, exact refusals.

The library reads keys as paths: a marker ``folder/`` comes out as an object ``folder`` that nobody can fetch, and one
odd key fails the whole listing. So listings are asked for here.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.parsers import expat

from runyard.stores.endpoints import DEFAULT_REGION, check_secret, s3_endpoint, tls_context
from runyard.stores.errors import StoreError
from runyard.stores.faults import Asked, of_os_error, of_status
from runyard.stores.keys import check_bucket
from runyard.stores.sigv4 import encode_path, encode_query, sign
from runyard.wire.orders import Item, Place

TIMEOUT_S = 20.0
_MAX_ANSWER = 32 << 20
_TRIES = 4
_FIRST_PAUSE_S = 0.1


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A signature is good for one address: a redirect is an answer of its own."""

    def redirect_request(self, *_args: object, **_kwargs: object) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing: objects as the bucket names them, and the token of the next page (None: the last)."""

    items: tuple[Item, ...]
    next: str | None


class S3Requests:
    """One bucket of one end-point. Thread-safe; each request has a connection of its own. Proxies of the environment
    are honoured."""

    def __init__(self, place: Place, ca_bundle: Path | None = None) -> None:
        self._address = s3_endpoint(place.endpoint_url, place.region)
        self._bucket = check_bucket(place.bucket)
        check_secret(place.secret)
        self._region = place.region or DEFAULT_REGION
        self._secret = place.secret
        parts = urlsplit(self._address)
        self._host = parts.netloc
        self._base = f"{parts.path}/{place.bucket}"
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if parts.scheme == "https":
            handlers.append(urllib.request.HTTPSHandler(context=tls_context(ca_bundle)))
        self._opener = urllib.request.build_opener(*handlers)

    def list_page(
        self,
        prefix: str,
        token: str | None = None,
        *,
        limit: int = 1000,
        timeout_s: float = TIMEOUT_S,
        tries: int = _TRIES,
    ) -> Page:
        """One page of the objects whose keys start with ``prefix``."""
        query = {"list-type": "2", "encoding-type": "url", "max-keys": str(limit), "prefix": prefix}
        if token:
            query["continuation-token"] = token
        return parse_page(self._patiently("GET", "", query, timeout_s, tries), self._asked(""))

    def list_all(self, prefix: str) -> Iterator[Item]:
        """All objects whose keys start with ``prefix``, page after page."""
        token: str | None = None
        while True:
            page = self.list_page(prefix, token)
            yield from page.items
            if page.next is None:
                return
            token = page.next

    def head(self, key: str, *, timeout_s: float = TIMEOUT_S, tries: int = _TRIES) -> None:
        """Ask whether an object may be read."""
        self._patiently("HEAD", key, {}, timeout_s, tries)

    def put(self, key: str, body: bytes, *, timeout_s: float = TIMEOUT_S) -> None:
        """Write a small object; one try."""
        self._once("PUT", key, {}, body, timeout_s)

    def delete(self, key: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Remove an object; one try."""
        self._once("DELETE", key, {}, b"", timeout_s)

    def _asked(self, key: str) -> Asked:
        return Asked(self._address, self._bucket, key)

    def _patiently(self, method: str, key: str, query: Mapping[str, str], timeout_s: float, tries: int) -> bytes:
        pause = _FIRST_PAUSE_S
        for _ in range(tries - 1):
            try:
                return self._once(method, key, query, b"", timeout_s)
            except StoreError as error:
                if error.definite:
                    raise
            time.sleep(pause)
            pause *= 4
        return self._once(method, key, query, b"", timeout_s)

    def _once(self, method: str, key: str, query: Mapping[str, str], body: bytes, timeout_s: float) -> bytes:
        path = f"{self._base}/{key}" if key else self._base
        headers: dict[str, str] = {"User-Agent": "runyard"}
        if self._secret is not None:
            now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            headers = sign(
                method, self._host, path, query, headers, body, secret=self._secret, region=self._region, amz_date=now
            )
        url = f"{self._address[: self._address.index(self._host)]}{self._host}{encode_path(path)}"
        if query:
            url += f"?{encode_query(query)}"
        request = urllib.request.Request(url, data=body or None, headers=headers, method=method)
        if method == "PUT":
            request.add_header("Content-Length", str(len(body)))
        return self._exchange(request, self._asked(key), timeout_s)

    def _exchange(self, request: urllib.request.Request, asked: Asked, timeout_s: float) -> bytes:
        try:
            with self._opener.open(request, timeout=timeout_s) as response:
                return response.read(_MAX_ANSWER)
        except urllib.error.HTTPError as error:
            with error:
                raise of_status(error.code, code_of(error.read(65536)), asked) from None
        except urllib.error.URLError as error:
            cause = error.reason if isinstance(error.reason, OSError) else OSError(str(error.reason))
            raise of_os_error(cause, asked) from None
        except http.client.HTTPException:
            raise of_os_error(OSError("connection closed"), asked) from None
        except OSError as error:
            raise of_os_error(error, asked) from None


class _Texts:
    """The texts of an XML document with the path of element names that leads to each. Refuses a DOCTYPE."""

    def __init__(self) -> None:
        self.path: list[str] = []
        self.text: list[str] = []
        self.found: list[tuple[str, str]] = []
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self.text.append
        self._parser.StartDoctypeDeclHandler = self._refuse

    def read(self, document: bytes) -> list[tuple[str, str]]:
        self._parser.Parse(document, True)
        return self.found

    def _start(self, name: str, _attributes: dict[str, str]) -> None:
        self.path.append(name.rpartition(" ")[2])
        self.text.clear()

    def _end(self, _name: str) -> None:
        self.found.append(("/".join(self.path), "".join(self.text)))
        self.path.pop()
        self.text.clear()

    def _refuse(self, *_args: object) -> None:
        raise ValueError("a document type has no place in an answer")


def code_of(document: bytes) -> str:
    """The error code in the body of a refusal, one word; empty where there is none."""
    try:
        codes = [text for path, text in _Texts().read(document) if path == "Error/Code"]
    except (expat.ExpatError, ValueError):
        return ""
    return codes[0] if codes and codes[0].isalnum() and len(codes[0]) <= 60 else ""


def parse_page(document: bytes, asked: Asked) -> Page:
    """Read the answer to ListObjectsV2 with ``encoding-type=url``. An answer that is none counts as ``unreachable``."""
    items: list[Item] = []
    entry: dict[str, str] = {}
    top: dict[str, str] = {}
    try:
        for path, text in _Texts().read(document):
            if path == "ListBucketResult/Contents":
                items.append(Item(entry["Key"], int(entry["Size"]), entry.get("ETag", "")))
                entry = {}
            elif path.startswith("ListBucketResult/Contents/"):
                entry[path.rpartition("/")[2]] = text
            else:
                top[path] = text
    except (expat.ExpatError, ValueError, KeyError):
        top = {}
    truncated = top.get("ListBucketResult/IsTruncated") == "true"
    token = top.get("ListBucketResult/NextContinuationToken")
    if "ListBucketResult" not in top or (truncated and not token):
        sentence = f"What answers at {asked.address} is not an S3 store: its listing cannot be read to the end."
        raise StoreError("unreachable", sentence)
    if top.get("ListBucketResult/EncodingType") == "url":
        items = [Item(unquote(item.key.replace("+", " ")), item.size, item.etag) for item in items]
    return Page(tuple(items), token if truncated else None)
