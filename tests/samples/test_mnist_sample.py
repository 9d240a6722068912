"""The sample runs as it is, without the service: files and environment variables are all it knows."""

import gzip
import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "samples" / "mnist" / "convolutional_network.py"
DIGITS = ROOT / "samples" / "data" / "digits"
SHORT = ["--trainingIters", "60", "--learningRate", "0.005", "--evaluateEvery", "20"]
PRIVATE = ("RESULT_DIR", "CHECKPOINT_DIR", "DATA_DIR")


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in PRIVATE}
    return {**kept, "OMP_NUM_THREADS": "1", **more}


def run_sample(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        cwd=folder,
        env=environment(**{"DATA_DIR": str(DIGITS), **more}),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def metrics_in(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


def weights_in(folder: Path) -> bytes:
    return (folder / "model" / "model.pt").read_bytes()


def test_learns_the_digits_and_leaves_model_and_metrics(tmp_path: Path) -> None:
    files = {
        "--trainImagesFile": "train-images-idx3-ubyte.gz",
        "--trainLabelsFile": "train-labels-idx1-ubyte.gz",
        "--testImagesFile": "t10k-images-idx3-ubyte.gz",
        "--testLabelsFile": "t10k-labels-idx1-ubyte.gz",
    }
    flags = [word for flag, name in files.items() for word in (flag, str(DIGITS / name))]
    result = run_sample(tmp_path, *flags, *SHORT, DATA_DIR="/nowhere")
    assert result.returncode == 0, result.stderr
    metrics = metrics_in(tmp_path / "results")
    assert metrics["test_accuracy"] > 0.85
    assert metrics["steps"] == 60
    history = json.loads((tmp_path / "results" / "val_dict_list.json").read_text())
    assert [entry["steps"] for entry in history] == [20, 40, 60]
    assert history[-1]["accuracy"] == metrics["test_accuracy"] > history[0]["accuracy"]
    assert f"test accuracy {metrics['test_accuracy']:.4f} after 60 steps" in result.stdout
    assert len(weights_in(tmp_path / "results")) > 10_000


def test_settings_come_from_flags_then_config_then_defaults(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"learning_rate": 0.02, "channels": 4, "batchSize": 32, "color": 1})
    )
    result = run_sample(tmp_path, "--trainingIters", "2", "--learning_rate", "0.03", RESULT_DIR=str(tmp_path / "out"))
    assert result.returncode == 0, result.stderr
    used = json.loads((tmp_path / "out" / "metrics.json").read_text())["hyper_parameters"]
    assert (used["learning_rate"], used["channels"], used["batch_size"], used["hidden"]) == (0.03, 4, 32, 64)
    assert "nothing here is called 'color'" in result.stdout


def test_an_interrupted_run_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    assert run_sample(whole, *SHORT).returncode == 0

    checkpoints = parts / "checkpoints"
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), *SHORT],
        cwd=parts,
        env=environment(DATA_DIR=str(DIGITS), CHECKPOINT_DIR=str(checkpoints)),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("step 20/60"))
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
    assert process.returncode == 143, line + rest
    assert [path.name for path in checkpoints.iterdir()] == ["checkpoint.pt"]

    second = run_sample(parts, *SHORT, CHECKPOINT_DIR=str(checkpoints))
    assert second.returncode == 0, second.stderr
    assert "goes on from the checkpoint after step" in second.stdout
    assert weights_in(parts / "results") == weights_in(whole / "results")
    assert (parts / "results" / "val_dict_list.json").read_text() == (
        whole / "results" / "val_dict_list.json"
    ).read_text()


def write_idx(path: Path, shape: tuple[int, ...], values: bytes) -> None:
    path.write_bytes(gzip.compress(struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + values))


def test_takes_pictures_of_another_size(tmp_path: Path) -> None:
    for part in ("train", "t10k"):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", (20, 28, 24), bytes(range(210)) * 64)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", (20,), bytes(range(10)) * 2)
    result = run_sample(tmp_path, "--trainingIters", "2", DATA_DIR=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "20 pictures of (28, 24)" in result.stdout


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "There is no file"),
        (b"plain text", "is not a whole gzip file"),
        (gzip.compress(b"plain text"), "is not an idx file of unsigned bytes"),
    ],
    ids=["missing", "not gzip", "not idx"],
)
def test_a_bad_file_is_named_in_a_sentence(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "images.gz"
    if content is not None:
        path.write_bytes(content)
    result = run_sample(tmp_path, "--trainImagesFile", str(path))
    assert result.returncode == 1
    assert sentence in result.stderr
    assert str(path) in result.stderr
    assert "Traceback" not in result.stderr
