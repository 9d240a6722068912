"""From an accepted POST to the program's first line, and to the end of its first training step, on an idle machine."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.context import Context
from bench.machine import boottime_ns
from bench.values import Measure, Row, check, row
from bench.yard import DIGITS, PROGRAMS, Yard, manifest
from bench.yardstick import plain_environment
from tools.environment import program

PAUSE_S = 0.25
"""Between two runs: until the one before is stored and released, and everything is idle."""

NOTHING: dict[str, float | str] = {}
FIRST_LINE: dict[str, float | str] = {"xargs -n1, the same script": "the yardstick"}


@dataclass(frozen=True, slots=True)
class Times:
    """Of one run, in ms: from the answer of the POST and from its call to ``key`` of what the program told."""

    from_answer: float
    from_call: float
    post: float
    warm: bool


def one(yard: Yard, name: str, text: str, key: str, given: dict[str, object]) -> Times:
    batch = yard.run(PROGRAMS / name, text, [given])
    told = yard.told(batch.ids[0])
    at = int(str(told[key]))
    check(at > batch.called, f"{batch.ids[0]} says that it began before it was submitted")
    time.sleep(PAUSE_S)
    warm = "warm" in batch.ways.values()
    return Times((at - batch.accepted) / 1e6, (at - batch.called) / 1e6, (batch.accepted - batch.called) / 1e6, warm)


def bare(name: str, key: str, *words: str) -> float:
    """The yardstick: ms from the spawn of a fresh interpreter to the same line of the same script."""
    script = next((PROGRAMS / name).glob("*.py"))
    began = boottime_ns()
    done = subprocess.run(
        [str(program("python")), str(script), *words],
        env={**plain_environment(), "DATA_DIR": str(DIGITS)},
        capture_output=True,
        text=True,
        check=True,
    )
    return (json.loads(done.stdout.splitlines()[-1])[key] - began) / 1e6


def by_command(yard: Yard) -> tuple[float, float, float]:
    """`runyard train` for one run: ms from its start to the program's first line, its whole ms, and its CPU ms."""
    folder = PROGRAMS / "stamp"
    used, began = _children_cpu(), boottime_ns()
    yard.seq = max((event.seq for event in yard.client.history("last")), default=yard.seq)
    submitted = yard.runyard.ask_record("train", str(folder), str(folder / "manifest.yml"))
    took, used = (boottime_ns() - began) / 1e6, _children_cpu() - used
    (run,) = yard.client.wait([str(each) for each in submitted["ids"]])  # type: ignore[union-attr]  # a list of ids
    check(run.state == "completed", f"{run.id} is {run.state}: {run.sentence}")
    yard.seq = max(event.seq for event in yard.client.history(run.id))
    time.sleep(PAUSE_S)
    return (int(str(yard.told(run.id)["first_line"])) - began) / 1e6, took, used * 1000


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def void(times: Sequence[Times]) -> str:
    cold = sum(not each.warm for each in times)
    return f"{cold} of {len(times)} runs were not started warm" if cold else ""


def first_line(context: Context) -> list[Row]:
    count = context.times(30, 5)
    warm_text, exec_text = manifest("stamp"), manifest("stamp", warm="off")
    with context.yard(1) as yard:
        yard.warmed(PROGRAMS / "stamp", warm_text, {})
        yard.run(PROGRAMS / "stamp", exec_text)
        warm: list[Times] = []
        cold: list[Times] = []
        plain: list[float] = []
        for _ in range(count):
            plain.append(bare("stamp", "first_line"))
            warm.append(one(yard, "stamp", warm_text, "first_line", {}))
            cold.append(one(yard, "stamp", exec_text, "first_line", {}))
        told = [by_command(yard) for _ in range(context.times(10, 2))]
    stick = sorted(plain)[len(plain) // 2]
    start = "accepted POST to the program's first line, idle"
    return [
        row(f"{start}: warm", "ms", [t.from_answer for t in warm], "<= 25", yardstick=stick, void=void(warm)),
        row(f"{start}: exec", "ms", [t.from_answer for t in cold], "<= 35", yardstick=stick),
        row("call of the POST to the first line: warm", "ms", [t.from_call for t in warm], yardstick=stick),
        row("call of the POST to the first line: exec", "ms", [t.from_call for t in cold], yardstick=stick),
        row("the POST itself", "ms", [t.post for t in warm + cold]),
        row("`runyard train`: its start to the first line", "ms", [t[0] for t in told], yardstick=stick),
        row("`runyard train`: its own time", "ms", [t[1] for t in told]),
        row("`runyard train`: its own CPU", "ms", [t[2] for t in told]),
        row("a fresh interpreter to the same line (yardstick)", "ms", plain),
    ]


def first_step(context: Context) -> list[Row]:
    count = context.times(25, 3)
    text = manifest("train")
    given: dict[str, object] = {"epochs": 1}
    with context.yard(1) as yard:
        yard.push_digits()
        yard.warmed(PROGRAMS / "train", text, given)
        warm: list[Times] = []
        plain: list[float] = []
        for number in range(count):
            if number % 3 == 0:
                plain.append(bare("train", "first_step", "--epochs", "1"))
            warm.append(one(yard, "train", text, "first_step", given))
    stick = sorted(plain)[len(plain) // 2]
    return [
        row(
            "accepted POST to the end of the first torch step: warm",
            "ms",
            [t.from_answer for t in warm],
            "<= 60",
            yardstick=stick,
            void=void(warm),
        ),
        row("a fresh interpreter to the end of the first torch step (yardstick)", "ms", plain),
    ]


def run(context: Context) -> list[Row]:
    check(os.cpu_count() is not None, "this machine does not tell its processors")
    return first_line(context) + first_step(context)


MEASURE = Measure("latency", "accepted POST -> the program's first line; -> the end of its first torch step", run)
