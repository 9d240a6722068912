"""Addresses of stores and the authorities that are trusted there."""

from __future__ import annotations

import os
import re
import ssl
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from runyard.stores.errors import StoreError
from runyard.wire.orders import Secret

DEFAULT_REGION = "us-east-1"
CA_VARIABLE = "SSL_CERT_FILE"
"""Environment variable that names a PEM file of authorities, to be trusted in the place of the system's own."""

_REGION = re.compile(r"[A-Za-z0-9-]{1,40}")


def s3_endpoint(url: str | None, region: str | None) -> str:
    """The address of an S3 end-point without a slash at its end; Amazon's own for the region when none is given."""
    if region is not None and not _REGION.fullmatch(region):
        raise StoreError("invalid", f"The region {region[:60]!r} cannot be used: letters, digits and hyphens only.")
    return http_address(url or f"https://s3.{region or DEFAULT_REGION}.amazonaws.com", "endpoint_url")


def http_address(url: str, what: str) -> str:
    """Check an ``http`` or ``https`` address and cut the slash at its end.

    Raises :class:`StoreError` (``invalid``) for any other scheme, no host, a wrong port, a user name or password, a
    query, and characters that have no place in an address.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        raise StoreError("invalid", f"The {what} is not an address: write it as https://host:port.") from None
    if parts.username is not None or parts.password is not None:
        raise StoreError("invalid", f"The {what} holds a user name or password; credentials have keys of their own.")
    if not usable or parts.query or parts.fragment or re.search(r"[^!-~]|[\"<>\\^`{|}]", url):
        raise StoreError("invalid", f"The {what} {url[:120]!r} is not an address: write it as https://host:port.")
    return url.rstrip("/")


def check_secret(secret: Secret | None) -> None:
    """Raise :class:`StoreError` (``invalid``) for keys that no request can carry. They are not repeated."""
    carried = (secret.access_key_id, secret.session_token or "-") if secret else ("-",)
    if not all(re.fullmatch(r"[!-~]+", text) for text in carried):
        raise StoreError("invalid", "The access key id or session token holds a blank or other odd character.")


def ca_pem(ca_bundle: Path | None) -> str | None:
    """The text of a PEM file of authorities, None without one. Raises :class:`StoreError` (``invalid``)."""
    if ca_bundle is None:
        return None
    try:
        text = ca_bundle.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(
            "invalid", f"The file of certificate authorities {ca_bundle} cannot be read: {error}."
        ) from None
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise StoreError("invalid", f"The file of certificate authorities {ca_bundle} holds no PEM certificate.")
    return text


def tls_context(ca_bundle: Path | None) -> ssl.SSLContext:
    """A verifying context that trusts the system's authorities (or those of ``SSL_CERT_FILE``) and the given ones.

    Made once for the same texts: loading the authorities of a system takes some 20 ms.
    """
    try:
        return _tls_context(ca_pem(ca_bundle), os.environ.get(CA_VARIABLE))
    except ssl.SSLError:
        raise StoreError("invalid", f"The file of certificate authorities {ca_bundle} is not valid PEM.") from None


@lru_cache(maxsize=8)
def _tls_context(pem: str | None, _named: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if pem is not None:
        context.load_verify_locations(cadata=pem)
    return context
