"""A small convolutional network for pictures of digits, in PyTorch.

Reads the four gzipped idx files that MNIST comes in (http://yann.lecun.com/exdb/mnist describes the
format), of any picture size from 4x4 on. It needs nothing but PyTorch, and runs with or without a
training service around it:

* settings: flags first, then the keys of a ``config.json`` in the working directory, then the defaults;
* ``RESULT_DIR`` (else ``./results``) gets ``model/model.pt``, ``metrics.json`` and ``val_dict_list.json``;
* ``CHECKPOINT_DIR``, where it is set, gets a checkpoint now and then, and the next start goes on from it:
  a run that was interrupted ends with the same numbers as one that was not;
* SIGTERM writes a last checkpoint and ends the program with status 143.
"""

import argparse
import gzip
import json
import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

try:
    from runyard import log as record  # charts, where they are watched
except ImportError:

    def record(*_values: Any, **_named: Any) -> None:
        """Nobody watches: the printed lines and metrics.json are all there is."""


# ------------------------------------------------------------------------------------------------------ settings
@dataclass(frozen=True)
class Settings:
    """What can be tuned. A name's flag is its camelCase form, e.g. ``--learningRate``; both forms are understood."""

    learning_rate: float = 0.001
    batch_size: int = 128
    epochs: int = 2
    training_iters: int = 0  # number of batches to train for; 0: as many as the epochs have
    channels: int = 16  # of the first convolution; the second has twice as many
    hidden: int = 64  # units of the layer between the convolutions and the ten answers
    dropout: float = 0.1
    seed: int = 1
    evaluate_every: int = 200  # batches between two looks at the test set
    checkpoint_every: int = 200  # batches between two checkpoints


@dataclass(frozen=True)
class Files:
    train_images: Path
    train_labels: Path
    test_images: Path
    test_labels: Path


def camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


def plain(name: str) -> str:
    """``learningRate``, ``learning_rate`` and ``learning-rate`` are one name."""
    return name.replace("_", "").replace("-", "").lower()


def read_config(path: Path) -> dict[str, Any]:
    """The settings that a ``config.json`` names; says which of its keys this program has no use for."""
    if not path.is_file():
        return {}
    names = {plain(setting.name): setting for setting in fields(Settings)}
    found: dict[str, Any] = {}
    for key, value in json.loads(path.read_text(encoding="utf-8")).items():
        if plain(key) in names:
            found[names[plain(key)].name] = type(names[plain(key)].default)(value)
        else:
            say(f"config.json: nothing here is called {key!r}")
    return found


def parse_arguments(argv: list[str], config: dict[str, Any]) -> tuple[Settings, Files]:
    parser = argparse.ArgumentParser(description="Train a small convolutional network on pictures of digits.")
    data = Path(os.environ.get("DATA_DIR", "."))
    for file in fields(Files):
        kind, what = file.name.split("_")
        default = f"{'train' if kind == 'train' else 't10k'}-{what}-idx{3 if what == 'images' else 1}-ubyte.gz"
        parser.add_argument(f"--{camel(file.name)}File", dest=file.name, type=Path, default=data / default)
    for setting in fields(Settings):
        name = setting.name
        flags = dict.fromkeys([f"--{camel(name)}", f"--{name}", f"--{name.replace('_', '-')}"])
        default = config.get(name, setting.default)
        parser.add_argument(*flags, dest=name, type=type(setting.default), default=default)
    given = vars(parser.parse_args(argv))
    return (
        Settings(**{setting.name: given[setting.name] for setting in fields(Settings)}),
        Files(**{file.name: given[file.name] for file in fields(Files)}),
    )


# ---------------------------------------------------------------------------------------------------------- data
def read_idx(path: Path) -> Tensor:
    """The unsigned bytes of one gzipped idx file, in the shape that its header says."""
    try:
        raw = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        sys.exit(f"There is no file {path}: is it in the data bucket, and does the flag name it?")
    except (gzip.BadGzipFile, EOFError) as error:
        sys.exit(f"{path} is not a whole gzip file ({error}).")
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        sys.exit(f"{path} is not an idx file of unsigned bytes.")
    dimensions = raw[3]
    shape = struct.unpack(f">{dimensions}I", raw[4 : 4 + 4 * dimensions])
    values = torch.frombuffer(bytearray(raw[4 + 4 * dimensions :]), dtype=torch.uint8)
    return values.reshape(shape)


def read_pictures(images: Path, labels: Path) -> tuple[Tensor, Tensor]:
    """Pictures of shape (n, 1, height, width) from 0 to 1, and their n labels."""
    pictures = read_idx(images).unsqueeze(1).float() / 255
    answers = read_idx(labels).long()
    if len(pictures) != len(answers):
        sys.exit(f"{images} has {len(pictures)} pictures and {labels} has {len(answers)} labels.")
    return pictures, answers


# ------------------------------------------------------------------------------------------------------- network
def build_network(settings: Settings, height: int, width: int) -> nn.Sequential:
    channels = settings.channels
    return nn.Sequential(
        nn.Conv2d(1, channels, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * channels * (height // 4) * (width // 4), settings.hidden),
        nn.ReLU(),
        nn.Dropout(settings.dropout),
        nn.Linear(settings.hidden, 10),
    )


@torch.no_grad()
def evaluate(network: nn.Module, pictures: Tensor, answers: Tensor) -> tuple[float, float]:
    """Accuracy and mean loss."""
    network.eval()
    right, loss = 0, 0.0
    for start in range(0, len(pictures), 1000):
        scores = network(pictures[start : start + 1000])
        wanted = answers[start : start + 1000]
        right += int((scores.argmax(1) == wanted).sum())
        loss += float(F.cross_entropy(scores, wanted, reduction="sum"))
    network.train()
    return right / len(pictures), loss / len(pictures)


# ------------------------------------------------------------------------------------------------------ training
@dataclass
class Progress:
    """Where the training is; all of it goes into a checkpoint."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    """One entry for each look at the test set."""

    def save(self, folder: Path) -> None:
        """Written beside its place and then renamed, so that nobody ever sees half a checkpoint."""
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / "checkpoint.pt.partial"
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "history": self.history,
            "chance": torch.get_rng_state(),
        }
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / "checkpoint.pt")

    def load(self, folder: Path, device: torch.device) -> None:
        path = folder / "checkpoint.pt"
        if not path.is_file():
            return
        state = torch.load(path, map_location=device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.history = state["step"], state["history"]
        torch.set_rng_state(state["chance"].cpu())
        say(f"goes on from the checkpoint after step {self.step}")


@lru_cache(maxsize=1)
def order_of(epoch: int, seed: int, count: int) -> Tensor:
    """Every epoch has an order of its own, which follows from the seed and nothing else."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed * 10_007 + epoch))


def batch_of(step: int, settings: Settings, count: int) -> Tensor:
    """The indices of one batch."""
    epoch, number = divmod(step, steps_in_epoch(settings, count))
    return order_of(epoch, settings.seed, count)[number * settings.batch_size : (number + 1) * settings.batch_size]


def steps_in_epoch(settings: Settings, count: int) -> int:
    return -(-count // settings.batch_size)


def train_step(progress: Progress, pictures: Tensor, answers: Tensor) -> float:
    loss = F.cross_entropy(progress.network(pictures), answers)
    progress.optimizer.zero_grad()
    loss.backward()
    progress.optimizer.step()
    progress.step += 1
    return float(loss.detach())


def train(
    progress: Progress,
    settings: Settings,
    data: tuple[Tensor, Tensor],
    steps: int,
    after_step: Callable[[float], None],
) -> None:
    pictures, answers = data
    while progress.step < steps:
        batch = batch_of(progress.step, settings, len(pictures)).to(pictures.device)
        after_step(train_step(progress, pictures[batch], answers[batch]))


# ------------------------------------------------------------------------------------------------------- results
def say(line: str) -> None:
    print(line, flush=True)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def choose_device() -> torch.device:
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit():
        torch.set_num_threads(max(1, int(threads)))
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Reporter:
    """Called after every step: prints, records, evaluates and writes checkpoints when it is time."""

    def __init__(
        self, progress: Progress, settings: Settings, test: tuple[Tensor, Tensor], steps: int, checkpoints: Path | None
    ) -> None:
        self.progress, self.settings, self.test, self.steps = progress, settings, test, steps
        self.checkpoints = checkpoints
        self.stop_asked = False
        signal.signal(signal.SIGTERM, self.ask_to_stop)

    def ask_to_stop(self, *_signal: object) -> None:
        self.stop_asked = True

    def save(self) -> None:
        if self.checkpoints is not None:
            self.progress.save(self.checkpoints)

    def evaluate(self, loss: float) -> None:
        step = self.progress.step
        accuracy, test_loss = evaluate(self.progress.network, *self.test)
        self.progress.history.append({"steps": step, "accuracy": accuracy, "loss": test_loss, "train_loss": loss})
        record(step=step, train_loss=loss, test_loss=test_loss, test_accuracy=accuracy)
        say(f"step {step}/{self.steps}  train loss {loss:.4f}  test loss {test_loss:.4f}  test accuracy {accuracy:.4f}")

    def __call__(self, loss: float) -> None:
        step = self.progress.step
        if step % self.settings.evaluate_every == 0 or step == self.steps:
            self.evaluate(loss)
        if self.stop_asked:
            self.save()
            say(f"asked to stop: ends after step {step}")
            sys.exit(128 + signal.SIGTERM)
        if step % self.settings.checkpoint_every == 0 or step == self.steps:
            self.save()


def main(argv: list[str]) -> None:
    began = time.monotonic()
    settings, files = parse_arguments(argv, read_config(Path("config.json")))
    results = Path(os.environ.get("RESULT_DIR", "results"))
    checkpoints = Path(os.environ["CHECKPOINT_DIR"]) if os.environ.get("CHECKPOINT_DIR") else None
    device = choose_device()
    torch.manual_seed(settings.seed)

    pictures, answers = (tensor.to(device) for tensor in read_pictures(files.train_images, files.train_labels))
    test = read_pictures(files.test_images, files.test_labels)
    test = test[0].to(device), test[1].to(device)
    network = build_network(settings, *pictures.shape[2:]).to(device)
    steps = settings.training_iters or settings.epochs * steps_in_epoch(settings, len(pictures))
    say(f"{len(pictures)} pictures of {tuple(pictures.shape[2:])}, {len(test[0])} to test on, {steps} steps, {device}")
    say(f"settings {json.dumps(asdict(settings))}")

    progress = Progress(network, torch.optim.Adam(network.parameters(), lr=settings.learning_rate))
    if checkpoints is not None:
        progress.load(checkpoints, device)
    reporter = Reporter(progress, settings, test, steps, checkpoints)
    train(progress, settings, (pictures, answers), steps, reporter)

    accuracy, loss = evaluate(network, *test)
    (results / "model").mkdir(parents=True, exist_ok=True)
    torch.save({name: value.cpu() for name, value in network.state_dict().items()}, results / "model" / "model.pt")
    write_json(results / "val_dict_list.json", progress.history)
    metrics = {"test_accuracy": accuracy, "test_loss": loss, "steps": progress.step}
    metrics["seconds"] = round(time.monotonic() - began, 3)
    write_json(results / "metrics.json", {**metrics, "hyper_parameters": asdict(settings)})
    say(f"test accuracy {accuracy:.4f} after {progress.step} steps, {metrics['seconds']:.1f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
