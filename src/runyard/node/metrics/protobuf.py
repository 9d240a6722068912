"""As much of the encoding of Protocol Buffers (protobuf.dev, "Encoding") as reading a few fields takes."""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_F32, _F64 = struct.Struct("<f"), struct.Struct("<d")

Field = tuple[int, int, int | memoryview]
"""Number, wire type, and a number (varint) or the bytes of the field."""


class Malformed(ValueError):
    """Bytes that are no message."""


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of a message in their order. Raises :class:`Malformed`."""
    at, end = 0, len(message)
    while at < end:
        tag, at = varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, at = varint(message, at)
            yield number, kind, value
            continue
        if kind == BYTES:
            size, at = varint(message, at)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise Malformed(f"there is no wire type {kind}")
        if size > end - at:
            raise Malformed("a field is cut off")
        yield number, kind, message[at : at + size]
        at += size


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """An unsigned number of up to ten bytes and where the next field begins. Raises :class:`Malformed`."""
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise Malformed("a number has no end")


def signed(value: int) -> int:
    """A varint as int64."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def float32(content: memoryview) -> float:
    """A ``float``."""
    return float(_F32.unpack(content)[0])


def float64(content: memoryview) -> float:
    """A ``double``."""
    return float(_F64.unpack(content)[0])
