"""A small Keras network on pictures of digits, read from a ``.npz`` file as Keras's own data sets are.

Its curve is told by ``runyard.log``, where there is one; the model goes to ``$RESULT_DIR/model/model.keras``.
"""

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow import keras  # pyright: ignore[reportMissingModuleSource] # no package of this project's own

try:
    from runyard import log as record
except ImportError:

    def record(*_values: Any, **_named: Any) -> None:
        """Nobody watches."""


def tell(epoch: int, values: Mapping[str, Any] | None) -> None:
    """Called by Keras after every epoch, with its number from 0."""
    record(step=epoch + 1, **(values or {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--file", type=Path, default=Path(os.environ.get("DATA_DIR", ".")) / "digits.npz")
    options = parser.parse_args()
    keras.utils.set_random_seed(1)

    with np.load(options.file) as arrays:
        x_train, y_train = arrays["x_train"] / 255.0, arrays["y_train"]
        x_test, y_test = arrays["x_test"] / 255.0, arrays["y_test"]
    network = keras.Sequential(
        [
            keras.layers.Input(shape=x_train.shape[1:]),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    network.compile(keras.optimizers.Adam(options.lr), "sparse_categorical_crossentropy", metrics=["accuracy"])
    charts = keras.callbacks.LambdaCallback(on_epoch_end=tell)
    network.fit(
        x_train, y_train, epochs=options.epochs, validation_data=(x_test, y_test), callbacks=[charts], verbose=2
    )
    _, accuracy = network.evaluate(x_test, y_test, verbose=0)

    print(f"test accuracy {accuracy:.4f}", flush=True)
    results = Path(os.environ.get("RESULT_DIR", "results"))
    (results / "model").mkdir(parents=True, exist_ok=True)
    network.save(results / "model" / "model.keras")
    (results / "metrics.json").write_text(json.dumps({"test_accuracy": float(accuracy)}) + "\n")


if __name__ == "__main__":
    main()
