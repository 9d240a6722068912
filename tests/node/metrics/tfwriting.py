"""Event files of TensorBoard, written by hand: records of ``Event`` messages, as small as the format allows."""

import struct
from collections.abc import Sequence

from runyard.node.metrics.tfevents import masked_crc


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def field(number: int, content: bytes | int | float, *, fixed: str = "") -> bytes:
    """A field of a message: bytes, a varint, or (``fixed``: f or d) a float."""
    if fixed:
        return varint(number << 3 | (5 if fixed == "f" else 1)) + struct.pack("<" + fixed, content)
    if isinstance(content, bytes):
        return varint(number << 3 | 2) + varint(len(content)) + content
    return varint(number << 3) + varint(int(content))


def record(message: bytes) -> bytes:
    length = struct.pack("<Q", len(message))
    return length + struct.pack("<I", masked_crc(length)) + message + struct.pack("<I", masked_crc(message))


def event(step: int, values: Sequence[bytes] = (), wall_s: float = 1000.5) -> bytes:
    summary = b"".join(field(1, value) for value in values)
    parts = [field(1, wall_s, fixed="d"), field(2, step) if step else b"", field(5, summary) if values else b""]
    return record(b"".join(parts))


def simple(tag: str, value: float) -> bytes:
    """What ``SummaryWriter.add_scalar`` writes."""
    return field(1, tag.encode()) + field(2, value, fixed="f")


def tensor(tag: str, content: bytes, *, plugin: str = "scalars") -> bytes:
    """What ``tf.summary.scalar`` writes, around a ``TensorProto``."""
    metadata = field(9, field(1, field(1, plugin.encode()))) if plugin else b""
    return field(1, tag.encode()) + metadata + field(8, content)


VERSION = record(field(1, 1000.5, fixed="d") + field(3, b"brain.Event:2"))


def scalars(points: Sequence[tuple[int, float]], tag: str = "loss") -> bytes:
    """A whole file."""
    return VERSION + b"".join(event(step, [simple(tag, value)]) for step, value in points)
