"""Writes the digits as one ``.npz`` file, in the layout of Keras's own data sets: x_train, y_train, x_test, y_test.

Usage: ``python3 samples/keras-npz/make_npz.py samples/data/digits digits-npz/digits.npz``

It needs no numpy: a ``.npz`` file is a zip of ``.npy`` files, and those are a header and the bytes
(https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html), as the idx files are.
"""

import gzip
import struct
import sys
import zipfile
from pathlib import Path


def read_idx(path: Path) -> tuple[tuple[int, ...], bytes]:
    """Shape and bytes of a gzipped idx file: its fourth byte is the number of dimensions, then come their sizes."""
    raw = gzip.decompress(path.read_bytes())
    return struct.unpack(f">{raw[3]}I", raw[4 : 4 + 4 * raw[3]]), raw[4 + 4 * raw[3] :]


def npy(shape: tuple[int, ...], values: bytes) -> bytes:
    """An array of unsigned bytes in numpy's format 1.0: the header ends with a line break on a multiple of 64 bytes."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape!r}, }}"
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + values


def main(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, name in (("train", "train"), ("t10k", "test")):
            archive.writestr(f"x_{name}.npy", npy(*read_idx(source / f"{part}-images-idx3-ubyte.gz")))
            archive.writestr(f"y_{name}.npy", npy(*read_idx(source / f"{part}-labels-idx1-ubyte.gz")))
    print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: make_npz.py FOLDER-OF-IDX-FILES TARGET.npz")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
