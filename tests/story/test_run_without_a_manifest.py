"""A fresh folder with a `train.py` and nothing else: `runyard run` trains it, and tells what became of it."""

import base64
import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import runyard
from runyard.client.recipe import FIRST_LINE
from tests.node.metrics import tfwriting
from tests.support.installation import Installation

pytestmark = [pytest.mark.story, pytest.mark.timeout(300)]

TRAIN = """
import argparse, base64, os, sys

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, required=True)
lr = parser.parse_args().lr
os.makedirs("checkpoints")
os.makedirs("runs")
with open("runs/events.out.tfevents.1.host", "wb") as file:
    file.write(base64.b64decode(EVENTS.get(lr, "")))
with open("checkpoints/last.txt", "w") as file:
    file.write(repr(lr))
print("prefix", sys.prefix)
"""
RATES = (0.1, 0.01, 0.001)


def curve(rate: float) -> list[tuple[int, float]]:
    """The loss that a run with this rate tells to TensorBoard."""
    return [(step, rate * (10 - step)) for step in range(10)]


@pytest.fixture
def fresh(shared: Installation, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a program, from which the command line is called."""
    folder = shared.folder / "fresh"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    events = {rate: base64.b64encode(tfwriting.scalars(curve(rate))).decode() for rate in RATES}
    (folder / "train.py").write_text(f"EVENTS = {events!r}\n{TRAIN}")
    monkeypatch.setenv("RUNYARD_HOME", str(shared.home))
    monkeypatch.delenv("RUNYARD_URL", raising=False)
    monkeypatch.chdir(folder)
    return folder


def call(*words: str, check: int = 0) -> "subprocess.CompletedProcess[str]":
    """The command line, called in the current folder."""
    program = str(Path(sys.executable).with_name("runyard"))
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == check, done.stdout + done.stderr
    return done


def test_three_learning_rates_give_three_runs(shared: Installation, fresh: Path, tmp_path: Path) -> None:
    """The first of what must be shown: three different runs, their curves and their checkpoints."""
    done = call("run", "--set", "lr=0.1,0.01,0.001", "--args", "--follow", "--", "python3", "train.py")
    ids = done.stdout.split()
    assert len(ids) == 3
    *_, header, one, two, three, fetch = (line.split() for line in done.stderr.splitlines())
    assert header[:5] == ["ID", "STATE", "lr", "runs/loss", "CURVE"]
    assert [row[:3] for row in (one, two, three)] == [
        [run, "completed", lr] for run, lr in zip(ids, ("0.1", "0.01", "0.001"), strict=True)
    ]
    assert fetch == ["fetch:", "runyard", "download", *ids]
    call(*fetch[2:], "--to", str(tmp_path))
    for run, lr in zip(ids, RATES, strict=True):
        assert (tmp_path / run / "workdir" / "checkpoints" / "last.txt").read_text() == repr(lr)
        rows = list(csv.DictReader(call("metrics", run, "--csv").stdout.splitlines()))
        assert [int(row["step"]) for row in rows] == [step for step, _ in curve(lr)]
        assert [float(row["value"]) for row in rows] == pytest.approx([value for _, value in curve(lr)])


def test_what_was_inferred_is_told_and_can_be_saved(shared: Installation, fresh: Path) -> None:
    done = call("run", "--save", "m.yml", "--env", "A=it's", "--tag", "x", "--", "python3", "train.py", "--lr", "3 ")
    told = done.stderr
    assert "python3 train.py --lr '3 '" in told
    assert f"Python {sys.version.split()[0]}" in told
    assert "which is the service's own Python" in told
    assert "1 logical GPU slot" in told
    saved = (fresh / "m.yml").read_text()
    assert saved.startswith(FIRST_LINE)
    first = call("wait", done.stdout.strip())
    again = call("train", ".", "m.yml", "--wait")
    shown = [json.loads(call("show", each.stdout.split()[0], "--json").stdout) for each in (first, again)]
    for key in ("name", "command", "resources", "tags", "results"):
        assert shown[0][key] == shown[1][key]
    assert (shown[0]["name"], shown[0]["tags"], shown[0]["state"]) == ("fresh", ["x"], "completed")
    (fresh / "own.yml").write_text("mine: 1\n")
    assert "did not write" in call("run", "--save", "own.yml", "--", "true", check=2).stderr
    assert (fresh / "own.yml").read_text() == "mine: 1\n"


def test_another_environment_is_the_callers(shared: Installation, fresh: Path, tmp_path: Path) -> None:
    """A virtual environment whose `python` the command names is the one that the run has."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=60)
    done = call("run", "--follow", "--", str(venv / "bin" / "python"), "train.py", "--lr", "1")
    assert f"of {venv} (the command names it)." in done.stderr
    assert f"prefix {venv}\n" in done.stdout


def test_from_python(shared: Installation, fresh: Path) -> None:
    runs = runyard.run(
        "python3 train.py | tee out", sets={"lr": [1.0, 2.0]}, append_args=False, force=True, tags=("py",)
    )
    assert [run.hyper_parameters for run in runs] == [{"lr": 1.0}, {"lr": 2.0}]
    assert [run.command for run in runs] == ["python3 train.py | tee out"] * 2
    assert [run.state for run in runyard.wait(runs)] == ["failed", "failed"]  # --lr is not there
