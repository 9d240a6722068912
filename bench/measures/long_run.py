"""A long training run: what the service takes beside it, and whether the run gets slower for it."""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections.abc import Sequence
from statistics import mean, stdev

from bench.context import Context
from bench.machine import cores
from bench.processes import Process
from bench.values import Measure, Row, check, row
from bench.yard import DIGITS, PROGRAMS, Yard, manifest
from bench.yardstick import plain_environment
from tools.environment import ROOT, program

OURS = ("server", "node", "supervisor", "shim", "warm shim", "launcher")
STUDENT = {5: 2.776, 7: 2.447, 9: 2.306, 11: 2.228, 13: 2.179, 15: 2.145, 21: 2.086}
"""Two-sided 95 % points of Student's distribution, by the number of values (n - 1 degrees of freedom)."""


def taken(before: dict[int, Process], after: dict[int, Process]) -> float:
    """CPU seconds of the service's own processes between two looks, all of which live through both."""
    return sum(
        process.cpu_s - (before[pid].cpu_s if pid in before else 0.0)
        for pid, process in after.items()
        if process.role in OURS
    )


def overhead(yard: Yard, text: str, seconds: float, epochs: int) -> tuple[float, float]:
    """The service's CPU in percent of what the machine has, while a run trains; and the seconds looked at."""
    batch = yard.submit(PROGRAMS / "train", text, [{"epochs": epochs, "report": 10}])
    while b"epoch" not in yard.client.log(batch.ids[0]):
        time.sleep(0.2)
    began, before = time.perf_counter(), yard.processes()
    time.sleep(seconds)
    took, after = time.perf_counter() - began, yard.processes()
    state = yard.client.run(batch.ids[0]).state
    check(state == "running", f"the long run is {state} after {seconds:.0f} s and should run still")
    yard.client.cancel(batch.ids[0])
    yard.wait(batch)
    return taken(before, after) / (took * cores()) * 100, took


def bare(epochs: int) -> dict[str, object]:
    """The same run by hand, reporting the same to a file."""
    metrics = {"RUNYARD_METRICS": "/dev/null", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [str(program("python")), str(PROGRAMS / "train" / "train.py"), "--epochs", str(epochs), "--report", "10"],
        env={**plain_environment(), **metrics, "DATA_DIR": str(DIGITS)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half of its 95 % confidence interval."""
    if len(values) < 2:
        return values[0], math.inf
    point = next((point for count, point in STUDENT.items() if count >= len(values)), 1.96)
    if len(values) < min(STUDENT):
        point = {2: 12.706, 3: 4.303, 4: 3.182}[len(values)]
    return mean(values), point * stdev(values) / math.sqrt(len(values))


def pairs(yard: Yard, text: str, epochs: int, count: int) -> tuple[list[float], list[float]]:
    """Percent by which the run's own loop takes longer as a run of the service, pair by pair, in turns: by the clock,
    and of processor time, which other work on the machine changes less."""
    wall, cpu = list[float](), list[float]()
    for number in range(count):
        times: dict[str, dict[str, object]] = {}
        for who in ("bare", "ours") if number % 2 else ("ours", "bare"):
            if who == "bare":
                times[who] = bare(epochs)
            else:
                times[who] = yard.told(yard.run(PROGRAMS / "train", text, [{"epochs": epochs, "report": 10}]).ids[0])
        check(times["ours"]["digest"] == times["bare"]["digest"], "the run learnt something else than the bare program")
        for name, found in (("compute_s", wall), ("compute_cpu_s", cpu)):
            ours, by_hand = (float(str(times[who][name])) for who in ("ours", "bare"))
            found.append((ours / by_hand - 1) * 100)
    return wall, cpu


def run(context: Context) -> list[Row]:
    text = manifest("train", grace="1s")
    seconds, epochs, count = context.times(60, 8), context.times(400, 60), context.times(11, 3)
    with context.yard(1) as yard:
        yard.push_digits()
        yard.warmed(PROGRAMS / "train", text, {"epochs": 1})
        shares = [overhead(yard, text, seconds, 1_000_000) for _ in range(context.times(3, 1))]
        wall, cpu = pairs(yard, text, epochs, count)
    return [
        row(
            "a long torch run: the service's CPU seconds / (wall x cores)",
            "%",
            [share for share, _ in shares],
            "<= 0.5",
            note=f"{seconds} s each, a line and a point every 10 epochs, all followed by nobody",
        ),
        row("a long torch run: wall beside the same run by hand, paired", "%", wall, note=sure(wall, epochs)),
        row("a long torch run: processor time beside the same by hand, paired", "%", cpu, note=sure(cpu, epochs)),
    ]


def sure(values: Sequence[float], epochs: int) -> str:
    """How sure a mean of pairs is."""
    middle, half = interval(values)
    return f"mean {middle:+.2f} % with a 95 % confidence interval of +-{half:.2f} %; {epochs} epochs a run, in turns"


MEASURE = Measure("long", "a long torch run: the service's CPU; paired wall", run)
