"""Metrics: what a call of ``runyard.log`` costs, how many points a second the server takes, how fast they are read.

Each figure stands beside a yardstick of the same machine and moment: the bare write of such a line, a bare append of
such bytes to a file, a bare read of the file. The server runs in a thread of this process, over SQLite and files.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from pathlib import Path

from runyard.adapters.telemetry.metrics import MetricFiles
from runyard.core.metrics import Series
from runyard.ports.metrics import MetricKey
from runyard.wire.points import encode
from tests.api.serving import Api, Machine, serving

POINTS = 100_000
CALLS = """
import os, timeit
import runyard
runyard.log(step=0, loss=0.5)
number = 20000
each = timeit.repeat(lambda: runyard.log(step=1, loss=0.123456, accuracy=0.654321), number=number, repeat=7)
line = b'{"s":1,"t":1795380077150,"v":{"loss":0.123456,"accuracy":0.654321}}\\n'
file = os.open(os.environ["RUNYARD_METRICS"], os.O_WRONLY | os.O_APPEND)
bare = timeit.repeat(lambda: os.write(file, line), number=number, repeat=7)
print(min(each) / number * 1e6, sorted(each)[3] / number * 1e6, min(bare) / number * 1e6)
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


def calls(folder: Path) -> None:
    """What ``runyard.log`` takes in a program."""
    environment = {**os.environ, "RUNYARD_METRICS": str(folder / "metrics.jsonl")}
    told = subprocess.run([sys.executable, "-c", CALLS], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    best, median, bare = map(float, told.stdout.split())
    print(f"runyard.log(step, two values): {best:.2f} us a call (median {median:.2f}); a bare write {bare:.2f} us")


def bring(api: Api, machine: Machine, made: list[bytes]) -> float:
    """Seconds in which the server takes these blocks, one request each, and sums them up."""
    run, offset = machine.started(), 0
    begun = time.perf_counter()
    for block in made:
        answer = api.call("PUT", f"/node/metrics/{run}/1/1?offset={offset}", block, token="node")
        offset = answer.json()["size"]
    took = time.perf_counter() - begun
    if offset != sum(map(len, made)):
        raise SystemExit("the server did not take all points")
    machine.end(run)
    return took


def ingest(api: Api, machine: Machine, folder: Path) -> None:
    """Points a second through the API."""
    for each in (5, 1000, 20_000):
        made = blocks(min(POINTS * 5, each * 200), each)
        took = bring(api, machine, made)
        size = sum(map(len, made))

        def append(content: bytes = b"".join(made)) -> None:
            (folder / "bare").write_bytes(content)

        count = each * len(made)
        print(
            f"taken in blocks of {each} points: {count / took:,.0f} points/s, {len(made) / took:,.0f} blocks/s"
            f" ({size / took / 1e6:.1f} MB/s; a bare write of it {size / seconds(append) / 1e6:,.0f} MB/s)"
        )


def read(api: Api, machine: Machine, folder: Path) -> None:
    """Reading points back: from the store, and through the API as JSON."""
    for each in (20_000, 1000, 5):
        made = blocks(POINTS, each)
        metrics, key = MetricFiles(folder / f"store-{each}"), MetricKey("training-a1B2c3D4e", 1)
        offset = 0
        for block in made:
            offset = metrics.append(key, offset, block)
        path = folder / f"store-{each}" / key.run_id / "1" / "1" / "metrics"
        took, bare = seconds(lambda: metrics.read(key, 0, 1 << 40)), seconds(path.read_bytes)  # noqa: B023 - at once
        told = f"{took * 1000:.1f} ms (the bare file {bare * 1000:.1f} ms)"
        print(f"{POINTS:,} points read from {len(made):,} blocks: {told}")
    run = machine.started()
    offset = 0
    for block in blocks(POINTS, 20_000):
        offset = api.call("PUT", f"/node/metrics/{run}/1/1?offset={offset}", block, token="node").json()["size"]
    machine.end(run)
    whole = seconds(lambda: api.call("GET", f"/training-runs/{run}/metrics?points=true"))
    thin = seconds(lambda: api.call("GET", f"/training-runs/{run}/metrics?points=true&limit=500"))
    print(f"{POINTS:,} points as JSON: {whole * 1000:.0f} ms; thinned out to 500: {thin * 1000:.0f} ms")


def main() -> None:
    """Print all figures."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calls(folder)
        with serving(folder / "server") as api:
            machine = Machine(api, gpus=64)
            machine.hello()
            machine.listen()
            ingest(api, machine, folder)
            read(api, machine, folder)
            machine.hang_up()


if __name__ == "__main__":
    main()
