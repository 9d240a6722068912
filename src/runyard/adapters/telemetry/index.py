"""The index of a stream of points: beside ``metrics``, ``metrics.index``, which can be made anew at any time.

It is a chain of segments, each of which tells of a MiB or two of the stream: for each series in them where its columns
lie, and its :mod:`pyramid <runyard.core.pyramid>`. What came after the last segment is read as it is. A segment is
appended when there is enough for it, flushed, and never changed. A machine that failed may leave the last one broken:
it is made again.

::

  segment  "RYX1" | length of all that follows u32 | CRC-32 of all that follows u32 | header length u32 | header
           | parts | foot                                                                 low byte first, everywhere
  header   JSON [begin, end, [[group, name, points, blocks], ...]]           begin, end: which bytes of the stream
  part     (offset of the columns in the stream i64, points i64)[blocks] | cells of each level, the finest first
  cell     step i64, time i64, value f64 of the lowest and of the highest, their places u32 u32, least, largest step i64
  foot     length of the segment u32 | "1XYR"
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from runyard.adapters.telemetry.blocks import BlockReader, read_blocks
from runyard.core.metrics import Series
from runyard.core.pyramid import Cell, level_sizes, levels_of
from runyard.ports.metrics import MetricKey
from runyard.wire.points import put_numbers

SEGMENT: Final = 1 << 20
"""Bytes of a stream that one segment tells of, at least."""
_HEAD: Final = struct.Struct("<4sIII")
_FOOT: Final = struct.Struct("<I4s")
_REF: Final = struct.Struct("<qq")
_CELL: Final = struct.Struct("<qqdqqdIIqq")
_MAGIC, _END = b"RYX1", b"1XYR"
_GUESS: Final = 16 << 10
"""Bytes that are read of a segment at first: the header is mostly in them."""


class _Header(msgspec.Struct, frozen=True, array_like=True):
    begin: int
    end: int
    series: tuple[tuple[str, str, int, int], ...]


_decoder = msgspec.json.Decoder(_Header)
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Part:
    """One series in one segment: how many points, in how many blocks, and where in the index that is told."""

    group: str
    name: str
    count: int
    blocks: int
    at: int

    @property
    def size(self) -> int:
        """Bytes that tell of it."""
        return self.blocks * _REF.size + sum(level_sizes(self.count)) * _CELL.size

    def refs(self, index: int) -> list[tuple[int, int]]:
        """Where its columns lie in the stream, block after block: offset, points."""
        return list(_REF.iter_unpack(os.pread(index, self.blocks * _REF.size, self.at)))

    def level(self, index: int, level: int) -> list[Cell]:
        """The cells of a level, or of its topmost where it is less high."""
        sizes = list(level_sizes(self.count))
        level = min(level, len(sizes) - 1)
        begin = self.at + self.blocks * _REF.size + sum(sizes[:level]) * _CELL.size
        found = os.pread(index, sizes[level] * _CELL.size, begin)
        return [Cell(*each) for each in _CELL.iter_unpack(found)]


@dataclass(frozen=True, slots=True)
class Segment:
    """What is known of some bytes of a stream; ``after``: where the next segment begins in the index."""

    begin: int
    end: int
    parts: tuple[Part, ...]
    after: int


def segments(index: int, size: int) -> Iterator[Segment]:
    """The segments of an index that tell of no more than ``size`` bytes of the stream, in their order."""
    at = told = 0
    while (found := _segment(index, at)) is not None and found.begin == told and found.end <= size:
        yield found
        at, told = found.after, found.end


def _segment(index: int, at: int) -> Segment | None:
    start = os.pread(index, _GUESS, at)
    if len(start) < _HEAD.size:
        return None
    magic, length, _, head = _HEAD.unpack_from(start, 0)
    if magic != _MAGIC:
        return None
    if _HEAD.size + head > len(start):
        start = os.pread(index, _HEAD.size + head, at)
    after = at + _HEAD.size - 4 + length
    foot = os.pread(index, _FOOT.size, after - _FOOT.size)
    if len(foot) < _FOOT.size or _FOOT.unpack(foot) != (after - at, _END):
        return None
    try:
        header = _decoder.decode(start[_HEAD.size : _HEAD.size + head])
    except msgspec.DecodeError:
        return None
    parts: list[Part] = []
    place = at + _HEAD.size + head
    for group, name, count, blocks in header.series:
        parts.append(Part(group, name, count, blocks, place))
        place += parts[-1].size
    return Segment(header.begin, header.end, tuple(parts), after)


class _Located(BlockReader):
    """Gathers points, and where in the stream they lie."""

    def __init__(self, key: MetricKey) -> None:
        super().__init__(key, None)
        self.refs: dict[tuple[str, str], list[tuple[int, int]]] = {}

    def located(self, group: str, name: str, offset: int, count: int) -> None:
        self.refs.setdefault((group, name), []).append((offset, count))


def extend_index(index: int, stream: int, key: MetricKey, size: int, least: int = SEGMENT) -> None:
    """Make the segments (of ``least`` bytes or more) for which there is enough in a stream of so many bytes; one writer
    at a time."""
    told, at = _mended(index)
    while size - told >= least:
        reader = _Located(key)
        end = read_blocks(stream, reader, told, least)
        if end == told:
            return  # a block larger than all that is there
        text = _encoded(told, end, reader)
        view = memoryview(text)
        while view:
            written = os.pwrite(index, view, at)
            at, view = at + written, view[written:]
        os.fdatasync(index)
        told = end


def indexed(index: int) -> int:
    """How many bytes of the stream the index tells of, by its last segment, which is not looked at closely."""
    found = _last(index)
    return 0 if found is None else found[1].end


def _last(index: int) -> tuple[int, Segment] | None:
    """Where the last segment begins, and the segment; None where the index does not end with one."""
    size = os.fstat(index).st_size
    foot = os.pread(index, _FOOT.size, max(0, size - _FOOT.size))
    if len(foot) < _FOOT.size:
        return None
    length, end = _FOOT.unpack(foot)
    found = _segment(index, size - length) if end == _END and length <= size else None
    return None if found is None or found.after != size else (size - length, found)


def _mended(index: int) -> tuple[int, int]:
    """How far the whole segments tell, and where the next one is to be written; what is broken is cut off."""
    last = _last(index)
    if last is not None and _is_whole(index, last[0], last[1].after):
        return last[1].end, last[1].after
    told = at = 0
    while (found := _segment(index, at)) is not None and found.begin == told and _is_whole(index, at, found.after):
        told, at = found.end, found.after
    os.ftruncate(index, at)
    return told, at


def _is_whole(index: int, at: int, after: int) -> bool:
    text = memoryview(os.pread(index, after - at, at))
    _, _, crc, _ = _HEAD.unpack_from(text, 0)
    return zlib.crc32(text[_HEAD.size - 4 :]) == crc


def _encoded(begin: int, end: int, reader: _Located) -> bytes:
    series = reader.series()
    header = _Header(begin, end, tuple((s.group, s.name, len(s), len(reader.refs[s.group, s.name])) for s in series))
    head = _encoder.encode(header)
    body = [struct.pack("<I", len(head)), head]
    for each in series:
        body += (_REF.pack(*ref) for ref in reader.refs[each.group, each.name])
        body += (_CELL.pack(*cell) for level in levels_of(each) for cell in level)
    text = b"".join(body)
    length = len(text) + _FOOT.size
    text += _FOOT.pack(_HEAD.size - 4 + length, _END)
    return struct.pack("<4sII", _MAGIC, length, zlib.crc32(text)) + text


class Columns:
    """The bytes of the stream that one segment tells of, to take points of its series from."""

    def __init__(self, stream: int, index: int, segment: Segment) -> None:
        self._text = memoryview(os.pread(stream, segment.end - segment.begin, segment.begin))
        self._begin = segment.begin
        self._index = index

    def put(self, series: Series, part: Part, begin: int, end: int) -> None:
        """Add the points of a series from the place ``begin`` in the segment to before ``end``."""
        first = 0
        for offset, count in part.refs(self._index):
            low, high = max(0, begin - first), min(count, end - first)
            if low < high:
                for number, column in enumerate((series.steps, series.times, series.values)):
                    at = offset - self._begin + 8 * (number * count)
                    put_numbers(column, self._text[at + 8 * low : at + 8 * high])
            first += count
            if first >= end:
                return
