"""Several small objects of the embedded store in one request: ``POST /api/v1/node/objects``.

The body is a line with a JSON array of ``[account, bucket, key, size]``, then the bytes of all, one behind the other.
The answer is an array of as many ``{"size": N, "etag": "..."}``, of what is durably stored, or ``{"error": "..."}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

LARGEST_BODY = 8 << 20


class Named(msgspec.Struct, frozen=True, array_like=True):
    """Which object, and how many bytes of the body are its own."""

    account: str
    bucket: str
    key: str
    size: int


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one object; ``error``: it is not stored, and why, in a sentence."""

    size: int = -1
    etag: str = ""
    error: str = ""


class Malformed(Exception):
    """A body that is not of this form."""


def encode(objects: Sequence[tuple[Named, bytes]]) -> bytes:
    """A body."""
    return b"".join([msgspec.json.encode([named for named, _ in objects]), b"\n", *(content for _, content in objects)])


def decode(body: bytes) -> Iterator[tuple[Named, memoryview]]:
    """The objects of a body. Raises :class:`Malformed`."""
    line, _, _ = body.partition(b"\n")
    try:
        named = msgspec.json.decode(line, type=list[Named])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"The first line is no list of objects: {error}.") from None
    at = len(line) + 1
    if any(each.size < 0 for each in named) or at + sum(each.size for each in named) != len(body):
        raise Malformed("The sizes of the objects are not those of the bytes behind the first line.")
    view = memoryview(body)
    for each in named:
        yield each, view[at : at + each.size]
        at += each.size


def decode_answer(body: bytes) -> list[Kept]:
    """An answer. Raises ``msgspec.DecodeError``."""
    return msgspec.json.decode(body, type=list[Kept])
