"""Metrics: what a call of ``runyard.log`` costs, how many points a second the server takes, how fast charts are drawn.

Each figure stands beside a yardstick of the same machine and moment: the bare write of such a line, a bare append of
such bytes to a file, a read of every point. The server runs in a thread of this process, over SQLite and files, so that
what it costs to bring the points counts, too. ``bench.peers`` measures MLflow's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.values import Row, number, row
from runyard.adapters.telemetry.metrics import MetricFiles
from runyard.core.metrics import WHOLE, Series
from runyard.ports.metrics import MetricKey, Wanted
from runyard.wire.points import encode
from tests.api.serving import Api, Machine, serving
from tools.screen import table

CALLS = """
import json, os, sys, time, timeit
import runyard
runyard.log(step=0, loss=0.5)
number = 20000
ten = {"metric_%d" % each: each / 7 for each in range(10)}
line = b'{"s":1,"t":1795380077150,"v":{"loss":0.123456,"accuracy":0.654321}}\\n'
file = os.open(os.environ["RUNYARD_METRICS"], os.O_WRONLY | os.O_APPEND)
calls = {
    "1": lambda: runyard.log(step=1, loss=0.123456),
    "2": lambda: runyard.log(step=1, group="train", loss=0.123456, accuracy=0.654321),
    "10": lambda: runyard.log(ten, step=1),
}
calls["bare"] = lambda: os.write(file, line)
told = {}
for name, call in calls.items():
    tries = timeit.repeat(call, timer=time.process_time, number=number, repeat=9)
    told[name] = [each / number * 1e6 for each in tries]
json.dump(told, sys.stdout)
"""


def seconds(action: Callable[[], object], times: int = 5) -> float:
    """The median of some tries."""
    found: list[float] = []
    for _ in range(times):
        begun = time.perf_counter()
        action()
        found.append(time.perf_counter() - begun)
    return statistics.median(found)


def blocks(points: int, each: int) -> list[bytes]:
    """Blocks of one series, ``each`` points in every one."""
    made: list[bytes] = []
    for first in range(0, points, each):
        steps = array("q", range(first, first + each))
        times = array("q", (1_700_000_000_000 + step for step in steps))
        values = array("d", (1 / (step + 1) for step in steps))
        made.append(encode([Series("train", "loss", steps, times, values)], {"state/metrics.jsonl": (1, first)}))
    return made


def calls(folder: Path) -> list[Row]:
    """What ``runyard.log`` takes in a program."""
    environment = {**os.environ, "RUNYARD_METRICS": str(folder / "metrics.jsonl")}
    told = subprocess.run([sys.executable, "-c", CALLS], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, list[float]] = json.loads(told.stdout)
    bare = statistics.median(found.pop("bare"))
    return [
        row(f"runyard.log call, {count} value{'s' * (count != '1')}", "us", each, "<= 10", yardstick=bare, note=BARE)
        for count, each in found.items()
    ]


BARE = "processor time of the caller; the yardstick is the bare write(2) of such a line, of which every call is one"
Round = list[tuple[str, bytes]]
"""Blocks that come in one request, with their runs."""


def bring(api: Api, rounds: Sequence[Round]) -> tuple[float, float]:
    """Seconds in which the server takes these blocks as a node brings them, and sums them up; and how many of them this
    process, which brings and takes them, had a processor."""
    sizes: dict[str, int] = {}
    requests: list[tuple[bytes, list[int]]] = []
    for each in rounds:
        head: list[object] = []
        for run, block in each:
            head.append([run, 1, 1, "metrics", sizes.get(run, 0), len(block)])
            sizes[run] = sizes.get(run, 0) + len(block)
        body = json.dumps(head).encode() + b"\n" + b"".join(block for _, block in each)
        requests.append((body, [sizes[run] for run, _ in each]))
    begun, used = time.perf_counter(), time.process_time()
    for body, expected in requests:
        answer = api.call("POST", "/node/ranges", body, token="node").json()
        if answer[-1] != expected[-1]:
            raise SystemExit("the server did not take all points")
    return time.perf_counter() - begun, time.process_time() - used


def ingest(api: Api, machine: Machine, *, quick: bool) -> list[Row]:
    """Points a second through the API."""
    runs = [machine.started() for _ in range(50)]
    many = [encode([_some(name, 50) for name in ("loss", "accuracy")], {"state/metrics.jsonl": (1, 9)}) for _ in runs]
    one = runs[:1]
    shapes: list[tuple[str, str, Callable[[], list[Round]], int]] = [
        (
            "metrics into the store through the API: 50 runs, two metrics, 50 points of each in a request",
            ">= 200,000",
            lambda: [[*zip(runs, many, strict=True)] for _ in range(20)],
            50 * 100 * 20,
        ),
        (
            "one run, 20,000 points in a request",
            ">= 200,000",
            lambda: [[(one[0], each)] for each in blocks(500_000, 20_000)],
            500_000,
        ),
        (
            "one run, 200 blocks of 5 points in a request",
            "",
            lambda: [
                [(one[0], b"".join(found[at : at + 200]))]
                for found in [blocks(50_000, 5)]
                for at in range(0, 10_000, 200)
            ],
            50_000,
        ),
        ("one run, 5 points in a request", "", lambda: [[(one[0], each)] for each in blocks(1_000, 5)], 1_000),
    ]
    rows: list[Row] = []
    for name, target, make, count in shapes:
        found: list[float] = []
        busy: list[float] = []
        for _ in range(1 if quick else 5):
            fresh = [machine.started() for _ in runs[: 50 if count == 100_000 else 1]]
            renamed = dict(zip(runs, fresh, strict=False))
            rounds = [[(renamed[run], block) for run, block in each] for each in make()]
            took, used = bring(api, rounds)
            found.append(count / took)
            busy.append(count / used)
            for run in fresh:
                machine.end(run)
        note = f"{number(statistics.median(busy))} for each second of one processor, of client and server together"
        rows.append(row(name, "points/s", found, target, note=note))
    for run in runs:
        machine.end(run)
    return rows


def _some(name: str, count: int) -> Series:
    steps = array("q", range(count))
    times = array("q", (1_700_000_000_000 + step for step in steps))
    return Series("train", name, steps, times, array("d", (1 / (step + 1) for step in steps)))


def charts(folder: Path, *, quick: bool) -> list[Row]:
    """Drawing a curve of many points, and reading all of them, from the store."""
    count = 1_000_000 if quick else 10_000_000
    metrics, key, offset = MetricFiles(folder / "store"), MetricKey("training-a1B2c3D4e", 1), 0
    made = blocks(200_000, 20_000)
    begun = time.perf_counter()
    for turn in range(count // 20_000):
        offset = metrics.append(key, offset, made[turn % len(made)])
    took = time.perf_counter() - begun
    drawn: list[float] = []
    (outline,) = metrics.outlines(key, Wanted("loss"), WHOLE, 500)
    for _ in range(7):
        begun = time.perf_counter()
        (outline,) = metrics.outlines(key, Wanted("loss"), WHOLE, 500)
        outline.thinned(1000)
        drawn.append((time.perf_counter() - begun) * 1000)
    whole = seconds(lambda: metrics.read(key, 0, 1 << 40), 3) * 1000
    note = f"{len(outline.places):,} of {count:,} points are looked at; the yardstick is a read of every point"
    return [
        row(f"a chart of {count:,} points as 1,000", "ms", drawn, yardstick=whole, note=note),
        row("points that such a chart looks at", "points", [float(len(outline.places))], "<= 10,000"),
        row("points written and indexed, without the API", "points/s", [count / took]),
    ]


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one try of each, a tenth of the points")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = calls(folder)
        with serving(folder / "server") as api:
            machine = Machine(api, gpus=128)
            machine.hello()
            machine.listen()
            rows += ingest(api, machine, quick=given.quick)
            machine.hang_up()
        rows += charts(folder, quick=given.quick)
    told = [[each.measure, *map(number, (each.median, each.min, each.max)), each.unit, each.target] for each in rows]
    print(table(["", "median", "least", "most", "", "target"], told))
    print(*(f"{each.measure}: {each.note}" for each in rows if each.note), sep="\n")
    if given.json is not None:
        given.json.write_text(json.dumps([each.document() for each in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
