"""Writes the digits as one ``.npz`` file, in the layout of Keras's own data sets: x_train, y_train, x_test, y_test.

Usage: ``python3 samples/keras-npz/make_npz.py samples/data/digits digits-npz/digits.npz``
"""

import gzip
import sys
from pathlib import Path

import numpy as np


def read_idx(path: Path) -> np.ndarray:
    """The bytes of a gzipped idx file: its fourth byte is the number of dimensions, then come their sizes."""
    raw = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(raw, dtype=">u4", count=raw[3], offset=4)
    return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def main(source: Path, target: Path) -> None:
    arrays = {}
    for part, name in (("train", "train"), ("t10k", "test")):
        arrays[f"x_{name}"] = read_idx(source / f"{part}-images-idx3-ubyte.gz")
        arrays[f"y_{name}"] = read_idx(source / f"{part}-labels-idx1-ubyte.gz")
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(target, **arrays)
    print(f"{target}: {len(arrays['x_train'])} pictures to train on, {len(arrays['x_test'])} to test on")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: make_npz.py FOLDER-OF-IDX-FILES TARGET.npz")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
