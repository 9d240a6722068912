"""The main job from one end to the other: server up, data in, a small sweep trained, its results shown, server down."""

import argparse
import json
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tools.environment import ROOT, NotPrepared, prepare
from tools.free_port import free_port
from tools.runyard_cli import CommandFailed, JsonRecord, Runyard
from tools.screen import Step, say, table

EXTRAS = ("server", "samples")
PORT = 8642
SWEEP = {"learning_rate": "0.001,0.003,0.01", "channels": "8,16"}
TAG = "quickstart"
LOOK_EVERY_S = 2.0
PRICES = """\
# Prices of one hour, in whatever money you count.
price_gpu_hour = 1.2
price_cpu_hour = 0.05
price_gb_hour = 0.01
"""
BUCKET = "digits-models"
"""Where the manifest of the sample puts its results."""


def main(arguments: list[str]) -> int:
    """Exit code: 0 all trained, 1 a run failed, 2 something was missing, 130 interrupted."""
    options = parse(arguments)
    runyard = Runyard(options.home.resolve())
    try:
        prepare(EXTRAS)
        return tour(runyard, options.keep)
    except (NotPrepared, CommandFailed) as problem:
        say(str(problem))
        return 2
    except KeyboardInterrupt:
        say("\ninterrupted")
        return 130


@dataclass(frozen=True, slots=True)
class Options:
    home: Path
    keep: bool


def parse(arguments: list[str]) -> Options:
    parser = argparse.ArgumentParser(prog="quickstart.py", description=__doc__)
    parser.add_argument("--home", type=Path, default=ROOT / ".runyard", help="where the server keeps what it knows")
    parser.add_argument("--keep", action="store_true", help="leave the server running at the end")
    given = parser.parse_args(arguments)
    return Options(cast("Path", given.home), cast("bool", given.keep))


def tour(runyard: Runyard, keep: bool) -> int:
    """Starts a server unless one is up in this home already, and stops what it started."""
    if runyard.is_up():
        say(f"uses the server that is up in {runyard.home}")
        return train_and_show(runyard)
    set_prices(runyard.home)
    with Step("starts the server"):
        runyard.ask("up", "--detach", "--port", str(free_port(PORT)))
    try:
        code = train_and_show(runyard)
    except BaseException:
        stop(runyard)
        raise
    if keep:
        say(how_to_go_on(runyard))
    else:
        stop(runyard)
    return code


def set_prices(home: Path) -> None:
    """Gives the home prices to bill by, unless it has settings of its own."""
    settings = home / "settings.toml"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not settings.exists():
        settings.write_text(PRICES)


def stop(runyard: Runyard) -> None:
    with Step("stops the server"):
        runyard.ask("down", "--cancel-runs")


def train_and_show(runyard: Runyard) -> int:
    with Step("puts the digits into the bucket `digits`"):
        runyard.ask("data", "push", "samples/data/digits", "digits")
    with Step("submits a sweep") as step:
        submitted = runyard.ask_record("train", "samples/mnist", "samples/mnist/manifest.yml", *sweep_words())
        ids = cast("list[str]", submitted["ids"])
        step.show(f"{len(ids)} runs")
    with Step(f"trains {len(ids)} networks") as step:
        follow(runyard, ids, step)
    runs = [read_run(runyard, run_id) for run_id in ids]
    say("\n" + accuracy_table(runs))
    say("\nThe models are in the embedded store:\n" + "\n".join(f"  {run.model}" for run in runs if run.model))
    say("\nWhat it cost:\n" + runyard.ask("usage").rstrip() + "\n")
    return 0 if all(run.state == "completed" for run in runs) else 1


def sweep_words() -> list[str]:
    """`--args` appends each run's values to its command, as `--learning_rate 0.003`."""
    sets = [word for name, values in SWEEP.items() for word in ("--set", f"{name}={values}")]
    return [*sets, "--args", "--tag", TAG]


def follow(runyard: Runyard, ids: list[str], step: Step) -> None:
    """Until all runs have ended, by the service's own waiting; the states are looked at only to be shown."""
    waiting = runyard.start("wait", *ids)
    try:
        while waiting.poll() is None:
            step.show(count_states(runyard, ids))
            try:
                waiting.wait(timeout=LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                continue
    finally:
        waiting.terminate()
        waiting.wait()


def count_states(runyard: Runyard, ids: list[str]) -> str:
    """For example ``2 running, 4 waiting``, in one question to the service."""
    listed = cast("list[JsonRecord]", runyard.ask_json("list", "training-runs", "--tag", TAG, "--limit", str(len(ids))))
    states = Counter(str(run["state"]) for run in listed if run["id"] in ids)
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """One row of the table at the end."""

    id: str
    state: str
    settings: dict[str, object]
    accuracy: float | None
    seconds: float
    model: str


def read_run(runyard: Runyard, run_id: str) -> TrainedRun:
    """What the service knows of the run, and the accuracy that its program left among the results."""
    shown = runyard.ask_record("show", run_id)
    results = runyard.home / "quickstart" / run_id
    accuracy, model = None, ""
    if shown["state"] == "completed":
        runyard.ask("data", "pull", f"{BUCKET}/{run_id}", str(results))
        metrics = cast("dict[str, float]", json.loads((results / "metrics.json").read_text(encoding="utf-8")))
        accuracy, model = metrics["test_accuracy"], f"{BUCKET}/{run_id}/model/model.pt"
    settings = cast("dict[str, object]", shown["hyper_parameters"])
    return TrainedRun(run_id, str(shown["state"]), settings, accuracy, float(str(shown["gpu_seconds"])), model)


def accuracy_table(runs: list[TrainedRun]) -> str:
    """Best first; a run that did not complete comes last, with its state in the place of an accuracy."""
    heads = ["training run", *SWEEP, "accuracy", "GPU seconds"]
    ranked = sorted(runs, key=lambda run: -1.0 if run.accuracy is None else run.accuracy, reverse=True)
    return table(heads, [row_of(run) for run in ranked])


def row_of(run: TrainedRun) -> list[str]:
    result = run.state if run.accuracy is None else f"{run.accuracy:.4f}"
    return [run.id, *(str(run.settings.get(name, "")) for name in SWEEP), result, f"{run.seconds:.1f}"]


def how_to_go_on(runyard: Runyard) -> str:
    lines = [
        ("what it has done", runyard.typed("list", "training-runs")),
        ("the log of the last run", runyard.typed("logs", "last")),
        ("stop it", runyard.typed("down")),
    ]
    return "The server goes on. From here:\n" + "\n".join(f"  {command}   # {what}" for what, command in lines)
