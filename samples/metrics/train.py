"""One training, its curve told in each of the four ways: ``--way file``, ``tensorboard``, ``regex`` or ``log``.

The training is softmax regression on pictures of digits with numpy. Whatever the way, the same points arrive: group
``test``, names ``accuracy`` and ``loss``, one step an epoch. Everything runs without the service, too.
"""

import argparse
import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

Report = Callable[[int, dict[str, float]], None]
"""Told the step, and the values by name."""


# ------------------------------------------------------------------------------------------------------ four ways
def by_file() -> Report:
    """Lines of JSON in ``$LOG_DIR/evaluation-metrics.txt``; values are strings, type 2 is an integer, 3 a float."""
    path = Path(os.environ.get("LOG_DIR", ".")) / "evaluation-metrics.txt"
    seen = 0

    def report(step: int, values: dict[str, float]) -> None:
        nonlocal seen
        seen += 1
        now = int(time.time() * 1000)
        line = {
            "meta": {"training_id": os.environ.get("TRAINING_ID", ""), "time": now, "rindex": seen},
            "grouplabel": "test",
            "etimes": {"iteration": {"type": 2, "value": str(step)}},
            "values": {name: {"type": 3, "value": repr(value)} for name, value in values.items()},
        }
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    return report


def by_tensorboard() -> Report:
    """Event files; the folder below ``logs/tb`` is the group. PyTorch's and Keras's writers do as well."""
    from tensorboardX import SummaryWriter  # noqa: PLC0415 # pyright: ignore[reportMissingImports] # this way alone needs it

    writer = SummaryWriter(str(Path(os.environ.get("JOB_STATE_DIR", ".")) / "logs" / "tb" / "test"))

    def report(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return report


def by_regex() -> Report:
    """Lines of the log, which the manifest's ``evaluation_metrics`` has an expression for."""

    def report(step: int, values: dict[str, float]) -> None:
        print(f"epoch {step}: " + ", ".join(f"{name} {value!r}" for name, value in values.items()), flush=True)

    return report


def by_log() -> Report:
    """One line of code. Without Runyard beside it, it does nothing."""
    try:
        import runyard  # noqa: PLC0415 # this way alone needs it
    except ImportError:
        return lambda _step, _values: None

    def report(step: int, values: dict[str, float]) -> None:
        runyard.log(step=step, group="test", **values)

    return report


WAYS: dict[str, Callable[[], Report]] = {
    "file": by_file,
    "tensorboard": by_tensorboard,
    "regex": by_regex,
    "log": by_log,
}


# ------------------------------------------------------------------------------------------------------- training
def read_idx(path: Path) -> np.ndarray:
    """The bytes of a gzipped idx file: its fourth byte is the number of dimensions, then come their sizes."""
    raw = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(raw, dtype=">u4", count=raw[3], offset=4)
    return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def read_pictures(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    pictures = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    return pictures.reshape(len(pictures), -1) / 255.0, read_idx(folder / f"{part}-labels-idx1-ubyte.gz")


def chances_of(weights: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    powers = np.exp(pictures @ weights)
    return powers / powers.sum(axis=1, keepdims=True)


def train(folder: Path, lr: float, epochs: int, report: Report) -> None:
    pictures, labels = read_pictures(folder, "train")
    test_pictures, test_labels = read_pictures(folder, "t10k")
    chance = np.random.default_rng(1)
    weights = np.zeros((pictures.shape[1], 10))
    for epoch in range(1, epochs + 1):
        for batch in np.array_split(chance.permutation(len(pictures)), 45):
            error = chances_of(weights, pictures[batch])
            error[np.arange(len(batch)), labels[batch]] -= 1
            weights -= lr * pictures[batch].T @ error / len(batch)
        chances = chances_of(weights, test_pictures)
        accuracy = float((chances.argmax(axis=1) == test_labels).mean())
        loss = float(-np.log(chances[np.arange(len(test_labels)), test_labels]).mean())
        report(epoch, {"accuracy": round(accuracy, 4), "loss": round(loss, 4)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=sorted(WAYS), default="log")
    parser.add_argument("--lr", type=float, default=0.5)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    train(Path(os.environ.get("DATA_DIR", ".")), options.lr, options.epochs, WAYS[options.way]())
    print(f"reported {options.epochs} epochs by way of {options.way}", flush=True)


if __name__ == "__main__":
    main()
