"""Each peer measured beside the yardsticks that ours is measured beside: its own turn, interleaved with xargs."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.context import Context
from bench.machine import load
from bench.measures.short_runs import SCRIPT, SLOTS, TRAIN
from bench.peers import install
from bench.values import Untrue, check
from bench.yard import DIGITS, PROGRAMS
from bench.yardstick import plain_environment, timed, xargs
from tools.environment import program

SCRIPTS = Path(__file__).resolve().parent
STAMP = PROGRAMS / "stamp" / "stamp.py"


@dataclass(frozen=True, slots=True)
class Peer:
    """``package``: what must be installed; ``isolates``: whether each run has a process of its own; ``works``: what is
    measured of it; ``trivial`` and ``training``: how many runs of each."""

    name: str
    package: str
    script: str
    words: tuple[str, ...] = ()
    isolates: bool = True
    works: tuple[str, ...] = ("first_line", "first_step", "trivial", "torch", "memory")
    trivial: int = 200
    training: int = 10


PEERS = (
    Peer(
        "HyperQueue",
        "hyperqueue",
        "hyperqueue_peer.py",
        works=("first_line", "first_step", "trivial", "torch", "bulk"),
    ),
    Peer("GNU parallel", "parallel", "parallel_peer.py", works=("first_line", "trivial", "torch")),
    Peer("Dask, programs", "distributed", "dask_peer.py", works=("first_line", "trivial", "memory")),
    Peer(
        "submitit local",
        "submitit",
        "submitit_peer.py",
        works=("first_line", "trivial", "torch"),
        trivial=20,
        training=4,
    ),
    Peer("Ray max_calls=1", "ray", "ray_peer.py", works=("first_line", "trivial", "torch"), trivial=20, training=4),
    Peer("Ray Jobs", "ray", "ray_peer.py", ("jobs",), works=("first_line", "trivial", "memory"), trivial=10),
    Peer(
        "joblib, processes shared", "joblib", "joblib_peer.py", isolates=False, works=("first_line", "trivial", "torch")
    ),
    Peer("MLflow", "mlflow", "mlflow_peer.py", works=("metrics",)),
)
IMPORTS = {"submitit": "submitit", "MLflow": "mlflow", "Ray": "ray", "Dask": "distributed", "joblib": "joblib"}


@dataclass(slots=True)
class Found:
    """What a peer came to: figures by what they are of, or why there are none."""

    figures: dict[str, float] = field(default_factory=dict[str, float])
    problems: dict[str, str] = field(default_factory=dict[str, str])
    load: float = 0.0

    def document(self) -> dict[str, Any]:
        return {"figures": self.figures, "problems": self.problems, "load": self.load}


class Desk:
    """A peer's script that runs; asked one thing at a time."""

    def __init__(self, process: subprocess.Popen[str], patience: float) -> None:
        self._process, self._patience = process, patience

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # asked for when it was started
        watch = threading.Timer(self._patience, self._process.kill)
        watch.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watch.cancel()
        if not line:
            raise Untrue(f"its script ended or was ended, silent for up to {self._patience:.0f} s")
        told = json.loads(line)
        if "error" in told:
            raise Untrue(str(told["error"]))
        return told

    def ask(self, work: str, **given: object) -> dict[str, Any]:
        assert self._process.stdin is not None  # asked for when it was started
        order = {"work": work, "python": str(program("python")), "words": [], **given}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self.hear()


@contextmanager
def opened(peer: Peer, context: Context) -> Iterator[Desk]:
    command = [str(install.interpreter()), str(SCRIPTS / peer.script), *peer.words]
    env = {**plain_environment(), "DATA_DIR": str(DIGITS)}
    with (
        (context.folder / f"{peer.name.replace(' ', '-')}.err").open("w") as errors,
        subprocess.Popen(
            command,
            cwd=context.folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield Desk(process, 300)
        finally:
            assert process.stdin is not None  # asked for above
            process.stdin.close()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


@dataclass(frozen=True, slots=True)
class Turn:
    """A peer that is up, to be measured."""

    desk: Desk
    peer: Peer
    context: Context


def first_line(turn: Turn) -> dict[str, float]:
    told = turn.desk.ask("first_line", script=str(STAMP), key="first_line", count=turn.context.times(12, 2))
    return {"first_line": median(told["ms"])}


def first_step(turn: Turn) -> dict[str, float]:
    words = ["--epochs", "1"]
    told = turn.desk.ask("first_line", script=str(TRAIN), key="first_step", count=turn.context.times(3, 1), words=words)
    return {"first_step": median(told["ms"])}


def trivial(turn: Turn) -> dict[str, float]:
    ratios: list[float] = []
    count = turn.peer.trivial if not turn.context.quick else min(turn.peer.trivial, 20)
    turn.desk.ask("trivial", script=str(SCRIPT), count=2)
    for _ in range(turn.context.times(3, 1)):
        bare = timed(lambda: xargs(SCRIPT, count, SLOTS))
        ratios.append(turn.desk.ask("trivial", script=str(SCRIPT), count=count)["seconds"] / bare)
    return {"trivial": median(ratios)}


def torch(turn: Turn) -> dict[str, float]:
    count = turn.peer.training if not turn.context.quick else 2
    told = turn.desk.ask("torch", script=str(TRAIN), count=count)
    check(len({each["digest"] for each in told["told"]}) == 1, "its runs with one seed learnt different things")
    return {"torch": told["seconds"] / (sum(each["compute_s"] for each in told["told"]) / SLOTS)}


def bulk(turn: Turn) -> dict[str, float]:
    return {"bulk": turn.desk.ask("bulk", count=turn.context.times(5000, 500))["rate"]}


def memory(turn: Turn) -> dict[str, float]:
    return {"memory": turn.desk.ask("memory")["mb"]}


WORKS: Mapping[str, Callable[[Turn], dict[str, float]]] = {
    "first_line": first_line,
    "first_step": first_step,
    "trivial": trivial,
    "torch": torch,
    "memory": memory,
    "bulk": bulk,
}


def beside(peer: Peer, context: Context) -> Found:
    """Measure one peer; whatever goes wrong with it is noted and ends nothing else."""
    print(f"\n=== peer: {peer.name}", flush=True)
    found = Found(load=load())
    why = install.missing(peer.package)
    if why is not None:
        found.problems["all"] = f"not installed: {why}"
    else:
        try:
            _measured(peer, context, found)
        except Exception as error:  # a peer's failure is told, and never ends the run
            found.problems["all"] = f"{type(error).__name__}: {error}"
    print(json.dumps(found.document()), flush=True)
    return found


def _measured(peer: Peer, context: Context, found: Found) -> None:
    if "metrics" in peer.works:
        found.figures |= metrics(peer, context)
        return
    with opened(peer, context) as desk:
        found.figures["up_s"] = desk.hear()["up_s"]
        turn = Turn(desk, peer, context)
        for work in peer.works:
            try:
                found.figures |= WORKS[work](turn)
            except (Untrue, OSError, ValueError) as error:
                found.problems[work] = str(error)
    module = next((module for name, module in IMPORTS.items() if peer.name.startswith(name)), None)
    if module is not None:
        found.figures["import_cpu"] = import_cpu(module)


def metrics(peer: Peer, context: Context) -> dict[str, float]:
    """A peer whose script measures by itself and prints one JSON object."""
    done = subprocess.run(
        [str(install.interpreter()), str(SCRIPTS / peer.script)],
        cwd=context.folder,
        env=plain_environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return {**found, "import_cpu": import_cpu("mlflow")}


def import_cpu(module: str) -> float:
    """CPU seconds of a fresh interpreter that imports a peer, the least of three."""
    times: list[float] = []
    for _ in range(3):
        python = str(install.interpreter())
        pid = os.posix_spawn(python, [python, "-c", f"import {module}"], plain_environment())
        _, status, used = os.wait4(pid, 0)
        check(status == 0, f"`import {module}` failed in the peers' environment")
        times.append(used.ru_utime + used.ru_stime)
    return min(times)
