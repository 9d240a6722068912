"""Writes the four idx files of ``digits/`` from the digits that scikit-learn ships. Run once; the files are kept.

    pip install "scikit-learn>=1.9,<2"
    python samples/data/make_digits.py

The same input gives the same bytes: a fixed split, and gzip without a time stamp. Grey values from 0 to
16 become 0 to 255. The format is that of MNIST: two zero bytes, the type 8 (unsigned byte), the number
of dimensions, each dimension as a big-endian 32-bit integer, then the values.
"""

import gzip
import struct
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits  # pyright: ignore[reportMissingImports] # only this script needs it

TRAIN = 1437
"""Of 1,797 pictures; the other 360 are for testing."""


def write_idx(path: Path, values: np.ndarray) -> None:
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes(), compresslevel=9, mtime=0))
    print(f"{path.name}: {values.shape}, {path.stat().st_size} bytes")


def main() -> None:
    folder = Path(__file__).resolve().parent / "digits"
    folder.mkdir(exist_ok=True)
    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.target))
    images = np.rint(digits.images[order] * (255 / 16))
    labels = digits.target[order]
    for name, part in (("train", slice(None, TRAIN)), ("t10k", slice(TRAIN, None))):
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", images[part])
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", labels[part])


if __name__ == "__main__":
    main()
