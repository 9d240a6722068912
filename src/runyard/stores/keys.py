"""Which keys and bucket names a store takes, the same for every kind of store."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from runyard.stores.errors import StoreError
from runyard.wire.orders import Item

MAX_KEY_BYTES = 1024
"""The longest key of S3, in bytes of UTF-8."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_SUSPECT = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|[\x00-\x1f\x7f\\]")
"""An empty segment, '.', '..', a slash at an end, a control character, a backslash."""
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,63}")


def check_key(key: str) -> str:
    """Give the key back, or raise a :class:`StoreError` (``invalid``) that says what is wrong with it.

    A key is relative segments parted by ``/``. Refused are: the empty key, a leading or trailing slash, an empty,
    ``.`` or ``..`` segment, control characters, a backslash, what is not UTF-8, and more than 1,024 bytes.
    """
    if fault := _fault_of(key):
        raise StoreError("invalid", f"The object key {key[:80]!r} cannot be used: {fault}.")
    return key


def _fault_of(key: str) -> str | None:
    if not _SUSPECT.search(key) and len(key) <= MAX_KEY_BYTES // 4 and not _SURROGATE.search(key):
        return None
    if not key:
        return "it is empty"
    if key.startswith("/"):
        return "it starts with a slash; keys are relative"
    if key.endswith("/"):
        return "it ends with a slash, which names a folder, not an object"
    if "\\" in key:
        return "it holds a backslash; parts are separated by '/'"
    if _CONTROL.search(key):
        return "it holds a control character"
    if _SURROGATE.search(key):
        return "it is not valid Unicode"
    if _SUSPECT.search(key):
        return "a segment is empty, '.' or '..'"
    return f"it is longer than {MAX_KEY_BYTES} bytes" if len(key.encode()) > MAX_KEY_BYTES else None


def is_key(key: str) -> bool:
    """Whether :func:`check_key` would take it."""
    return _fault_of(key) is None


def check_bucket(bucket: str) -> str:
    """Give the name of a bucket back, or raise a :class:`StoreError` (``invalid``)."""
    if not _BUCKET.fullmatch(bucket) or bucket in (".", ".."):
        raise StoreError(
            "invalid",
            f"The bucket name {bucket[:80]!r} cannot be used: 1 to 63 letters, digits, dots, underscores and hyphens.",
        )
    return bucket


def join(prefix: str, key: str) -> str:
    """The key of the bucket for a key below a prefix (``runs``, ``runs/`` and the empty prefix all do)."""
    stem = prefix.strip("/")
    return f"{stem}/{key}" if stem else key


def listed(items: Iterable[Item], below: str, left_out: Callable[[str], None] | None) -> list[Item]:
    """The items of a bucket as items below a prefix, sorted by key.

    Markers of empty folders (no bytes, a slash at the end) are dropped; any other key that cannot be used is told to
    ``left_out`` and dropped.
    """
    kept: list[Item] = []
    for item in items:
        key = item.key.removeprefix(below)
        if not _fault_of(key):
            kept.append(Item(key, item.size, item.etag))
        elif left_out and (item.size or not item.key.endswith("/")):
            left_out(item.key)
    kept.sort(key=lambda item: item.key)
    return kept
