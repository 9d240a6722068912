"""Points of metrics on their way from a node: an append-only stream of blocks, shipped as logs are, by byte offset.

A block is ``RYM1``, the length of what follows as an unsigned 32-bit number, its CRC-32 (zlib) likewise; then the
length of the header (32-bit), the header (a JSON array, :class:`Header`), and for each of the header's series its steps
and times (signed 64-bit) and values (IEEE 754 double), all low byte first. ``PUT /api/v1/node/metrics/{run}/{attempt}/
{learner}?offset=N`` takes bytes of the stream, cut anywhere, and answers ``{"size": N}``, the offset to go on from.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from runyard.core.metrics import NO_STEP, Series

MAGIC = b"RYM1"
HEAD = struct.Struct("<4sII")
_LENGTH = struct.Struct("<I")
LARGEST = 8 << 20
"""Bytes of the largest block that is read."""
POINT = 24
"""Bytes of a point."""

Cursor = tuple[int, int]
"""How far a source was read: the number of its inode, and an offset in it."""


class Header(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What a block holds. ``series``: group, name and number of points of each; ``cursors``: how far each source was
    read when the block was written, as far as that changed; ``notes``: sentences for the user."""

    series: tuple[tuple[str, str, int], ...]
    cursors: dict[str, Cursor] = {}
    notes: tuple[str, ...] = ()


class Broken(Exception):
    """Bytes that are no block."""


_decoder = msgspec.json.Decoder(Header)
_encoder = msgspec.json.Encoder()


def encode(series: Sequence[Series], cursors: Mapping[str, Cursor], notes: Sequence[str] = ()) -> bytes:
    """One block."""
    head = Header(tuple((each.group, each.name, len(each)) for each in series), dict(cursors), tuple(notes))
    text = _encoder.encode(head)
    parts = [_LENGTH.pack(len(text)), text]
    for each in series:
        parts += (_little(each.steps), _little(each.times), _little(each.values))
    body = b"".join(parts)
    return HEAD.pack(MAGIC, len(body), zlib.crc32(body)) + body


def _little(column: array[int] | array[float]) -> bytes:
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column.tobytes()


def size_at(buffer: bytes | memoryview, at: int) -> int | None:
    """Bytes of the block that begins there; None when the buffer ends before that can be told. Raises
    :class:`Broken`."""
    if len(buffer) - at < HEAD.size:
        return None
    magic, length, _ = HEAD.unpack_from(buffer, at)
    if magic != MAGIC or not _LENGTH.size <= length <= LARGEST:
        raise Broken("no block begins here")
    return HEAD.size + length


def open_block(block: memoryview) -> tuple[Header, int]:
    """The header of a whole block and where its columns begin. Raises :class:`Broken`."""
    _, _, crc = HEAD.unpack_from(block, 0)
    if zlib.crc32(block[HEAD.size :]) != crc:
        raise Broken("a block does not match its checksum")
    (length,) = _LENGTH.unpack_from(block, HEAD.size)
    begin = HEAD.size + _LENGTH.size
    try:
        header = _decoder.decode(block[begin : begin + length])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Broken(f"the header of a block cannot be read: {error}") from None
    columns = begin + length
    counts = [count for _, _, count in header.series]
    if min(counts, default=0) < 0 or columns + sum(counts) * POINT != len(block):
        raise Broken("a block has not as many points as it says")
    return header, columns


def series_in(header: Header, block: memoryview, columns: int) -> Iterator[tuple[str, str, memoryview]]:
    """Group, name and the bytes of the three columns of each series."""
    for group, name, count in header.series:
        yield group, name, block[columns : columns + count * POINT]
        columns += count * POINT


def extend(series: Series, columns: memoryview) -> None:
    """Add the points of three columns to a series."""
    third = len(columns) // 3
    for column, begin in ((series.steps, 0), (series.times, third), (series.values, 2 * third)):
        put_numbers(column, columns[begin : begin + third])


def put_numbers(column: array[int] | array[float], part: memoryview) -> None:
    """Add the numbers of a part of a column as it travels."""
    if sys.byteorder == "big":
        swapped = array(column.typecode, bytes(part))
        swapped.byteswap()
        column.frombytes(swapped.tobytes())
    else:
        column.frombytes(part)


__all__ = [
    "NO_STEP",
    "Broken",
    "Cursor",
    "Header",
    "encode",
    "extend",
    "open_block",
    "put_numbers",
    "series_in",
    "size_at",
]
