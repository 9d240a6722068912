"""The digits that ship with the project are what their page says."""

import gzip
import struct
from collections import Counter
from pathlib import Path

DIGITS = Path(__file__).resolve().parents[2] / "samples" / "data" / "digits"


def read_idx(name: str) -> tuple[tuple[int, ...], bytes]:
    raw = gzip.decompress((DIGITS / name).read_bytes())
    assert raw[:3] == b"\0\0\x08"
    shape = struct.unpack(f">{raw[3]}I", raw[4 : 4 + 4 * raw[3]])
    return shape, raw[4 + 4 * raw[3] :]


def test_the_split_and_the_sizes() -> None:
    for part, count in (("train", 1437), ("t10k", 360)):
        shape, pixels = read_idx(f"{part}-images-idx3-ubyte.gz")
        assert shape == (count, 8, 8)
        assert len(pixels) == count * 64
        assert (min(pixels), max(pixels)) == (0, 255)
        labels_shape, labels = read_idx(f"{part}-labels-idx1-ubyte.gz")
        assert labels_shape == (count,)
        assert min(Counter(labels)[digit] for digit in range(10)) > count // 20


def test_the_files_hold_no_time_stamp() -> None:
    for path in DIGITS.iterdir():
        assert path.read_bytes()[4:8] == bytes(4), path.name
