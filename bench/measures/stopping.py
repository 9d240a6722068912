"""A running run: from the answer to its cancel to the last of its processes gone, beyond its grace."""

from __future__ import annotations

import json
import os
import select
import time

from bench.context import Context
from bench.machine import boottime_ns
from bench.processes import tree
from bench.values import Measure, Row, Untrue, check, row
from bench.yard import PROGRAMS, Yard, manifest


def record(yard: Yard, run: str) -> dict[str, object]:
    """What the shim wrote at the start of a run's first attempt."""
    path = yard.home / "node" / "runs" / run / "attempts" / "1" / "started.json"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            time.sleep(0.005)
    raise Untrue(f"{run} did not start within a minute")


def canceled(yard: Yard, text: str, deaf: int, grace_ms: float) -> float:
    """Ms from the call of the cancel until the program is gone, its grace left out, by a descriptor of its process."""
    batch = yard.submit(PROGRAMS / "stubborn", text, [{"deaf": deaf}])
    run = batch.ids[0]
    init = int(str(record(yard, run)["pid"]))
    deadline = time.monotonic() + 60
    while b"ready" not in yard.client.log(run):
        check(time.monotonic() < deadline, f"{run} did not say within a minute that it is ready")
        time.sleep(0.02)
    program = next(pid for pid in tree(init) if pid != init)  # what forked it may stay for the next one
    process = os.pidfd_open(program)
    try:
        called = boottime_ns()
        yard.client.cancel(run)
        gone_in_time = bool(select.select([process], [], [], 60)[0])
        check(gone_in_time, f"{run} was canceled and its program {program} still lives")
        gone = boottime_ns()
    finally:
        os.close(process)
    yard.wait(batch)
    check(yard.client.run(run).state == "canceled", f"{run} was canceled and is {yard.client.run(run).state}")
    return (gone - called) / 1e6 - grace_ms


def run(context: Context) -> list[Row]:
    count = context.times(20, 4)
    found: dict[str, list[float]] = {"a program that ends at once": [], "a program that ignores SIGTERM, grace 1 s": []}
    with context.yard(1) as yard:
        for _ in range(count):
            found["a program that ends at once"].append(canceled(yard, manifest("stubborn", grace="30s"), 0, 0))
        for _ in range(context.times(10, 2)):
            times = found["a program that ignores SIGTERM, grace 1 s"]
            times.append(canceled(yard, manifest("stubborn", grace="1s"), 1, 1000))
    what = "running run: cancel accepted to gone, beyond its grace"
    note = "from the call of the cancel, not its answer: a run that ends at once may be gone before that comes"
    return [row(f"{what}: {name}", "ms", values, "<= 200", note=note) for name, values in found.items()]


MEASURE = Measure("stopping", "running run: cancel accepted -> gone", run)
