"""TensorBoard's event files: records of TensorFlow (TFRecord) with a message ``Event`` each.

A record is its length (64-bit, low byte first), a masked CRC-32C of the length, the message, a masked CRC-32C of the
message (tensorflow/core/lib/io/record_writer.h). Read are scalars: ``simple_value``, and tensors of one number, as
TensorFlow 2 writes them (tensorflow/core/framework/{summary,tensor,types}.proto, util/event.proto).
"""

from __future__ import annotations

import struct
from typing import Final

from runyard.node.metrics.gathering import Gathering
from runyard.node.metrics.protobuf import BYTES, FIXED32, FIXED64, Malformed, fields, float32, float64, signed, varint

HEAD: Final = struct.Struct("<QI")
FOOT: Final = 4
LARGEST: Final = 1 << 18
"""Bytes of a message that is read: larger ones are graphs, images and the like."""


class BrokenFile(Exception):
    """The file is no event file, or no longer from here on."""


def _table() -> tuple[int, ...]:
    table: list[int] = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_CRC: Final = _table()


def crc32c(content: bytes | memoryview) -> int:
    """CRC-32C (Castagnoli) of some bytes, RFC 3720, appendix B.4."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = (crc >> 8) ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def masked_crc(content: bytes | memoryview) -> int:
    """The checksum as records have it."""
    crc = crc32c(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


class Events:
    """Takes whole records out of what was read of one event file."""

    def __init__(self, what: str, gathering: Gathering, group: str) -> None:
        self._what = what
        self._gathering = gathering
        self._group = group
        self._others: set[str] = set()
        """Tags that are of another kind than scalars."""

    def take(self, data: bytes, size: int) -> int:
        """Read the whole records at the beginning of ``data``, which is a part of what the file has from there on
        (``size`` bytes); returns how many bytes they are, those that are only passed over included.

        Raises :class:`BrokenFile`.
        """
        view, at = memoryview(data), 0
        while len(view) - at >= HEAD.size:
            length, crc = HEAD.unpack_from(view, at)
            whole = HEAD.size + length + FOOT
            if masked_crc(view[at : at + 8]) != crc:
                self._gathering.note(f"{self._what} is damaged: what follows in it is left out.")
                raise BrokenFile(self._what)
            if whole > size - at:
                break
            if length <= LARGEST:
                if at + whole > len(view):
                    break
                self._event(view[at + HEAD.size : at + HEAD.size + length])
            at += whole
        return at

    def _event(self, message: memoryview) -> None:
        moment, step, summary = 0.0, 0, None
        try:
            for number, kind, value in fields(message):
                if number == 1 and kind == FIXED64:
                    moment = float64(value)  # pyright: ignore[reportArgumentType]  # the kind says what it is
                elif number == 2 and isinstance(value, int):
                    step = signed(value)
                elif number == 5 and kind == BYTES:
                    summary = value
            if isinstance(summary, memoryview):
                time_ms = round(moment * 1000) if 0 <= moment < 1e12 else 0
                for number, kind, value in fields(summary):
                    if number == 1 and kind == BYTES and isinstance(value, memoryview):
                        self._value(value, step, time_ms)
        except (Malformed, struct.error, UnicodeDecodeError):
            self._gathering.note(f"A record of {self._what} cannot be read: it is left out.")

    def _value(self, message: memoryview, step: int, time_ms: int) -> None:
        tag, found = "", None
        plugin: str | None = None
        for number, kind, value in fields(message):
            if not isinstance(value, memoryview):
                continue
            if number == 1 and kind == BYTES:
                tag = bytes(value).decode()
            elif number == 2 and kind == FIXED32:
                found = float32(value)
            elif number == 8 and kind == BYTES:
                found = scalar(value)
            elif number == 9 and kind == BYTES:
                plugin = _plugin(value)
        if plugin not in (None, "", "scalars"):
            self._others.add(tag)
        if found is not None and tag and tag not in self._others:
            self._gathering.add(self._group, tag, step, time_ms, found)


def _plugin(metadata: memoryview) -> str | None:
    """``SummaryMetadata.plugin_data.plugin_name``."""
    for number, _, value in fields(metadata):
        if number == 1 and isinstance(value, memoryview):
            for inner, _, name in fields(value):
                if inner == 1 and isinstance(name, memoryview):
                    return bytes(name).decode()
    return None


_PACKED: Final = {1: "f", 2: "d", 3: "i", 4: "B", 5: "h", 6: "b", 9: "q", 10: "?", 17: "H", 19: "e", 22: "I", 23: "Q"}
"""``DataType`` to how one number of it lies in ``tensor_content`` (:mod:`struct`): float, double, int32, uint8, int16,
int8, int64, bool, uint16, half, uint32, uint64."""
_BFLOAT16, _HALF = 14, 19


def scalar(tensor: memoryview) -> float | None:
    """The number of a ``TensorProto`` that has exactly one; None for any other."""
    kind, size = 0, 1
    listed: list[float] = []
    content: memoryview | None = None
    for number, _, value in fields(tensor):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2 and isinstance(value, memoryview):
            size = _elements(value)
        elif number == 4 and isinstance(value, memoryview):
            content = value
        elif number in _LISTS:
            listed += _numbers(number, value, kind)
    if size != 1:
        return None
    if content is not None and len(content) > 0:
        return _from_content(kind, content)
    return listed[0] if len(listed) == 1 else None


def _elements(shape: memoryview) -> int:
    """The product of the dimensions of a ``TensorShapeProto``."""
    count = 1
    for number, _, value in fields(shape):
        if number == 2 and isinstance(value, memoryview):
            sizes = [signed(inner) for n, _, inner in fields(value) if n == 1 and isinstance(inner, int)]
            count *= sizes[-1] if sizes else 0
    return count


_LISTS: Final = {5: "float", 6: "double", 7: "int", 10: "int", 11: "int", 13: "half", 16: "int", 17: "int"}
"""Fields of ``TensorProto`` with numbers: float_val, double_val, int_val, int64_val, bool_val, half_val, uint32_val,
uint64_val."""


def _numbers(number: int, value: int | memoryview, kind: int) -> list[float]:
    form = _LISTS[number]
    if isinstance(value, int):
        return [_from_varint(form, value, kind)]
    if form == "float":
        step, unpack = 4, float32
    elif form == "double":
        step, unpack = 8, float64
    else:
        found: list[float] = []
        at = 0
        while at < len(value) and len(found) < 2:
            each, at = varint(value, at)
            found.append(_from_varint(form, each, kind))
        return found
    return [unpack(value[at : at + step]) for at in range(0, min(len(value), 2 * step), step)]


def _from_varint(form: str, value: int, kind: int) -> float:
    if form == "half":
        return _half(value, kind)
    return float(value if kind in (22, 23) else signed(value))


def _half(bits: int, kind: int) -> float:
    if kind == _BFLOAT16:
        return float(struct.unpack("<f", struct.pack("<I", (bits & 0xFFFF) << 16))[0])
    return float(struct.unpack("<e", struct.pack("<H", bits & 0xFFFF))[0])


def _from_content(kind: int, content: memoryview) -> float | None:
    if kind == _BFLOAT16 and len(content) == 2:
        return _half(int.from_bytes(content, "little"), kind)
    form = _PACKED.get(kind)
    if form is None or struct.calcsize("<" + form) != len(content):
        return None
    return float(struct.unpack("<" + form, content)[0])
