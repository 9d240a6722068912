"""Softmax regression on pictures of digits, with numpy and nothing else.

Reads the four gzipped idx files of MNIST's format in ``DATA_DIR``. Hyper-parameters are flags; results go to
``RESULT_DIR`` (else ``./results``): ``model/model.npz``, ``metrics.json`` and ``val_dict_list.json``.
"""

import argparse
import gzip
import json
import os
from pathlib import Path

import numpy as np


def read_idx(path: Path) -> np.ndarray:
    """The bytes of a gzipped idx file: its fourth byte is the number of dimensions, then come their sizes."""
    raw = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(raw, dtype=">u4", count=raw[3], offset=4)
    return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def read_pictures(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures as rows of values from 0 to 1, and their labels."""
    pictures = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    return pictures.reshape(len(pictures), -1) / 255.0, read_idx(folder / f"{part}-labels-idx1-ubyte.gz")


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def evaluate(weights: np.ndarray, bias: np.ndarray, pictures: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Accuracy and mean loss."""
    chances = softmax(pictures @ weights + bias)
    loss = -np.log(chances[np.arange(len(labels)), labels]).mean()
    return float((chances.argmax(axis=1) == labels).mean()), float(loss)


Pictures = tuple[np.ndarray, np.ndarray]
"""Pictures and their labels."""


def train_epoch(weights: np.ndarray, bias: np.ndarray, data: Pictures, lr: float, batches: list[np.ndarray]) -> None:
    """Changes the weights and the bias in place."""
    pictures, labels = data
    for batch in batches:
        error = softmax(pictures[batch] @ weights + bias)
        error[np.arange(len(batch)), labels[batch]] -= 1
        weights -= lr * pictures[batch].T @ error / len(batch)
        bias -= lr * error.mean(axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", type=float, default=0.5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    data = Path(os.environ.get("DATA_DIR", "."))
    results = Path(os.environ.get("RESULT_DIR", "results"))
    pictures, labels = read_pictures(data, "train")
    test = read_pictures(data, "t10k")
    chance = np.random.default_rng(options.seed)
    weights, bias = np.zeros((pictures.shape[1], 10)), np.zeros(10)
    history: list[dict[str, float]] = []
    for epoch in range(1, options.epochs + 1):
        order = chance.permutation(len(pictures))
        batches = [order[start : start + options.batch_size] for start in range(0, len(order), options.batch_size)]
        train_epoch(weights, bias, (pictures, labels), options.lr, batches)
        accuracy, loss = evaluate(weights, bias, *test)
        history.append({"steps": epoch, "accuracy": accuracy, "loss": loss})
        print(f"epoch {epoch}/{options.epochs}  test loss {loss:.4f}  test accuracy {accuracy:.4f}", flush=True)

    (results / "model").mkdir(parents=True, exist_ok=True)
    np.savez(results / "model" / "model.npz", weights=weights, bias=bias)
    (results / "metrics.json").write_text(json.dumps({"test_accuracy": history[-1]["accuracy"]}) + "\n")
    (results / "val_dict_list.json").write_text(json.dumps(history) + "\n")


if __name__ == "__main__":
    main()
