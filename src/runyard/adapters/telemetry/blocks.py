"""Reading a stream of blocks of points from a file."""

from __future__ import annotations

import os

from runyard.core.metrics import Series, empty_series
from runyard.ports.metrics import ALL_SERIES, MetricKey, Piece, Wanted
from runyard.wire.points import LARGEST, MAGIC, POINT, Broken, extend, open_block, series_in, size_at

WINDOW = 4 << 20
"""Bytes that are read at once."""


class BlockReader:
    """Takes the blocks of one stream and gathers their points by series."""

    def __init__(self, key: MetricKey, wanted: Wanted | None) -> None:
        self._key = key
        self._wanted = wanted or ALL_SERIES
        self._series: dict[tuple[str, str], Series] = {}
        self._notes: list[str] = []

    def take(self, buffer: memoryview, offset: int = 0) -> int:
        """Gather the whole blocks at the beginning of a buffer, which lies at an offset in the stream; returns how many
        bytes they are. What is no block is passed over, up to where the next one begins."""
        at = 0
        while True:
            try:
                size = size_at(buffer, at)
                if size is None or at + size > len(buffer):
                    return at
                self._block(buffer[at : at + size], offset + at)
                at += size
            except Broken:
                found = bytes(buffer[at + 1 :]).find(MAGIC)
                if found < 0:
                    return max(at, len(buffer) - len(MAGIC) + 1)
                at += 1 + found

    def _block(self, block: memoryview, offset: int) -> None:
        header, columns = open_block(block)
        self._notes += header.notes
        wanted = self._wanted
        for group, name, points in series_in(header, block, columns):
            columns += len(points)
            if not points or wanted.name not in (None, name) or wanted.group not in (None, group):
                continue
            series = self._series.get((group, name))
            if series is None:
                key = self._key
                series = self._series[group, name] = empty_series(group, name, key.learner, key.attempt)
            extend(series, points)
            self.located(group, name, offset + columns - len(points), len(points) // POINT)

    def located(self, group: str, name: str, offset: int, count: int) -> None:
        """Hear where in the stream points lie: the offset of their three columns, and how many they are."""

    def series(self) -> tuple[Series, ...]:
        """The series that were gathered, in the order in which they first appeared."""
        return tuple(self._series.values())

    def piece(self, after: int) -> Piece:
        """What was gathered."""
        return Piece(self.series(), tuple(self._notes), after)


def read_blocks(descriptor: int, reader: BlockReader, offset: int, limit: int) -> int:
    """Let a reader take about ``limit`` bytes of whole blocks (at least one) from an offset; returns the offset behind
    them."""
    end = offset + limit
    window = min(WINDOW, limit)
    while offset < end:
        buffer = os.pread(descriptor, window, offset)
        taken = reader.take(memoryview(buffer), offset)
        offset += taken
        if len(buffer) < window:
            break
        if taken == 0:
            if window > LARGEST:
                break
            window *= 2
    return offset
