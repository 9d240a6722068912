"""A network with one hidden layer on pictures of digits, with numpy: small enough to train two dozen of.

Hyper-parameters are flags. Tells its curve with ``runyard.log``, where there is one, and leaves ``model/model.npz``
and ``metrics.json`` in ``RESULT_DIR`` (else ``./results``).
"""

import argparse
import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

try:
    from runyard import log as record
except ImportError:

    def record(*_values: Any, **_named: Any) -> None:
        """Nobody watches."""


def read_idx(path: Path) -> np.ndarray:
    """The bytes of a gzipped idx file: its fourth byte is the number of dimensions, then come their sizes."""
    raw = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(raw, dtype=">u4", count=raw[3], offset=4)
    return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def read_pictures(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    pictures = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    return pictures.reshape(len(pictures), -1) / 255.0, read_idx(folder / f"{part}-labels-idx1-ubyte.gz")


class Network:
    """Weights of two layers, with ReLU between them and softmax behind."""

    def __init__(self, inputs: int, width: int, chance: np.random.Generator) -> None:
        self.first = chance.normal(0, np.sqrt(2 / inputs), (inputs, width))
        self.second = chance.normal(0, np.sqrt(2 / width), (width, 10))

    def forward(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The hidden layer, and the chance of each digit."""
        hidden = np.maximum(pictures @ self.first, 0)
        scores = hidden @ self.second
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return hidden, powers / powers.sum(axis=1, keepdims=True)

    def step(self, pictures: np.ndarray, labels: np.ndarray, lr: float, decay: float) -> None:
        hidden, error = self.forward(pictures)
        error[np.arange(len(labels)), labels] -= 1
        error /= len(labels)
        back = error @ self.second.T * (hidden > 0)
        self.second -= lr * (hidden.T @ error + decay * self.second)
        self.first -= lr * (pictures.T @ back + decay * self.first)

    def accuracy(self, pictures: np.ndarray, labels: np.ndarray) -> float:
        return float((self.forward(pictures)[1].argmax(axis=1) == labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--decay", type=float, default=0.0)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    data = Path(os.environ.get("DATA_DIR", "."))
    results = Path(os.environ.get("RESULT_DIR", "results"))
    pictures, labels = read_pictures(data, "train")
    test = read_pictures(data, "t10k")
    chance = np.random.default_rng(1)
    network = Network(pictures.shape[1], options.width, chance)
    accuracy = 0.0
    for epoch in range(1, options.epochs + 1):
        for batch in np.array_split(chance.permutation(len(pictures)), 45):
            network.step(pictures[batch], labels[batch], options.lr, options.decay)
        accuracy = network.accuracy(*test)
        record(step=epoch, accuracy=accuracy)
    print(f"lr {options.lr}, width {options.width}, decay {options.decay}: test accuracy {accuracy:.4f}", flush=True)
    (results / "model").mkdir(parents=True, exist_ok=True)
    np.savez(results / "model" / "model.npz", first=network.first, second=network.second)
    (results / "metrics.json").write_text(json.dumps({**vars(options), "test_accuracy": accuracy}) + "\n")


if __name__ == "__main__":
    main()
