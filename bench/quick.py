"""The short form that every check of the project runs: four ratios that hold still, each against a limit.

A limit lies at twice what was measured when it was set, since the machine is shared. A ratio beyond it is measured once
more, with more repetitions, before it counts as a regression. ``--update`` sets the limits anew, which is a decision:
the table of docs/performance.md must tell the same.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.machine import end_in_order, load
from bench.measures.commands import cpu_s
from bench.measures.queue import bare_insert
from bench.measures.short_runs import SCRIPT, SLOTS, our_training
from bench.values import Untrue, check
from bench.yard import PROGRAMS, Yard, manifest, parameters, yard
from bench.yardstick import timed, xargs
from tools.environment import program
from tools.screen import table

FLOORS = Path(__file__).resolve().parent / "floors.json"
MARGIN = 2.0
BULK = 2_000
TRIVIAL = 40
TRAINING = 10
LONGEST_S = 270
"""It takes a minute on a machine that does little else; one so busy that it takes this long tells nothing."""


@dataclass(frozen=True, slots=True)
class Limit:
    """``most`` or ``least``: what a ratio may be; ``measured``: what it was when that was set."""

    measured: float
    most: float | None = None
    least: float | None = None

    def holds(self, ratio: float) -> bool:
        return (self.most is None or ratio <= self.most) and (self.least is None or ratio >= self.least)

    def __str__(self) -> str:
        return f"<= {self.most:.3g}" if self.most is not None else f">= {self.least:.3g}"


def limits(path: Path = FLOORS) -> dict[str, Limit]:
    return {name: Limit(**each) for name, each in json.loads(path.read_text(encoding="utf-8")).items()}


def trivial(opened: Yard, repeat: int) -> float:
    """Trivial runs on two slots, beside `xargs -P2`: the least of both."""
    bare, ours = list[float](), list[float]()
    for _ in range(repeat):
        bare.append(timed(lambda: xargs(SCRIPT, TRIVIAL, SLOTS)))
        batch = opened.run(PROGRAMS / "trivial", manifest("trivial"), parameters(TRIVIAL))
        ours.append(batch.seconds)
    return min(ours) / min(bare)


def torch(opened: Yard, repeat: int) -> float:
    """Short training runs on two slots, beside their own compute: the least."""
    found: list[float] = []
    for _ in range(max(1, repeat // 3)):
        told, _ = our_training(opened, manifest("train"), TRAINING)
        check(len(set(told.digests)) == 1, "runs with one seed learnt different things")
        found.append(told.ratio)
    return min(found)


def bulk(opened: Yard, repeat: int) -> float:
    """Runs a second of one submission, beside rows a second of a bare, durable SQLite table: the most of both."""
    ours, bare = list[float](), list[float]()
    opened.client.pause_queue()
    with tempfile.TemporaryDirectory(prefix="runyard-bench-") as folder:
        for _ in range(repeat):
            bare.append(bare_insert(Path(folder), BULK))
            batch = opened.submit(PROGRAMS / "trivial", manifest("trivial"), parameters(BULK))
            check(len(set(batch.ids)) == BULK, f"{BULK} runs were asked for and {len(set(batch.ids))} accepted")
            ours.append(BULK / ((batch.accepted - batch.called) / 1e9))
            opened.client.cancel_many(states=["waiting"])
    return max(ours) / max(bare)


def help_cpu(opened: Yard, repeat: int) -> float:
    """CPU of `runyard --help`, beside that of `python -c pass`: the least of both."""
    env = opened.runyard.environment()
    commands = ([str(program("python")), "-c", "pass"], [str(program("runyard")), "--help"])
    bare, ours = ([cpu_s(command, env) for _ in range(2 * repeat + 1)] for command in commands)
    return min(ours) / max(min(bare), 0.001)


RATIOS: Mapping[str, Callable[[Yard, int], float]] = {
    "help / python -c pass": help_cpu,
    "trivial runs / xargs": trivial,
    "torch runs / ideal": torch,
    "bulk / executemany": bulk,
}
"""In this order: the last one leaves the queue paused."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``ratios``: of the first try, and of the second where there was one."""

    name: str
    ratios: tuple[float, ...]
    limit: Limit | None

    @property
    def good(self) -> bool:
        return self.limit is None or self.limit.holds(self.ratios[-1])


def judged(name: str, opened: Yard, limit: Limit | None) -> Verdict:
    first = RATIOS[name](opened, 3)
    if limit is None or limit.holds(first):
        return Verdict(name, (first,), limit)
    return Verdict(name, (first, RATIOS[name](opened, 6)), limit)


def measured(known: Mapping[str, Limit]) -> list[Verdict]:
    """All ratios, on one installation."""
    with yard(SLOTS, {}) as opened:
        opened.push_digits()
        opened.warmed(PROGRAMS / "train", manifest("train"), {"epochs": 1}, patience=20)
        opened.run(PROGRAMS / "trivial", manifest("trivial"))
        return [judged(name, opened, known.get(name)) for name in RATIOS]


def shown(verdicts: list[Verdict]) -> str:
    rows = [
        [
            each.name,
            ", ".join(f"{ratio:.3g}" for ratio in each.ratios),
            str(each.limit or ""),
            "" if each.good else "WORSE",
        ]
        for each in verdicts
    ]
    return table(["ratio", "measured", "limit", ""], rows)


def update(verdicts: list[Verdict]) -> None:
    """Twice as much as measured, or half of it where more is better."""
    found = {}
    for each in verdicts:
        ratio = each.ratios[-1]
        bound = (
            {"least": round(ratio / MARGIN, 4)} if each.name.startswith("bulk") else {"most": round(ratio * MARGIN, 3)}
        )
        found[each.name] = {"measured": round(ratio, 4), **bound}
    FLOORS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    """Exit code: 0 when every ratio is within its limit, 1 when one is not, even the second time."""
    parser = argparse.ArgumentParser(prog="python -m bench.quick", description=__doc__)
    parser.add_argument("--update", action="store_true", help="set the limits anew from what is measured now")
    given = parser.parse_args()
    end_in_order(LONGEST_S)
    began = time.monotonic()
    try:
        verdicts = measured({} if given.update else limits())
    except Untrue as untrue:
        print(f"The short form failed: {untrue}")
        return 1
    print(shown(verdicts))
    print(f"{time.monotonic() - began:.0f} s, load {load():.1f}")
    if given.update:
        update(verdicts)
    return 0 if all(each.good for each in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
