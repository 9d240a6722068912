"""The queue: how fast runs are taken, and whether a deep queue slows the next start."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from bench.context import Context
from bench.values import Measure, Row, check, row
from bench.yard import PROGRAMS, Batch, Yard, manifest, parameters
from bench.yardstick import timed

SLOTS = 2
SHARE = 100
"""Runs at the begin of a measurement of the rate that are not counted: slots fill, batches settle."""


def bare_insert(folder: Path, count: int) -> float:
    """Rows a second of one `executemany` into an indexed table, in one durable transaction: the yardstick."""
    path = folder / "bare.db"
    connection = sqlite3.connect(path)
    connection.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; DROP TABLE IF EXISTS runs;"
        "CREATE TABLE runs (id TEXT PRIMARY KEY, account TEXT, state TEXT, priority INT, parameters TEXT, at INT);"
        "CREATE INDEX by_state ON runs (account, state, priority, at);"
    )
    rows = [
        (f"training-{number:09d}", "default", "waiting", 50, f'{{"n":{number}}}', number) for number in range(count)
    ]

    def insert() -> None:
        with connection:
            connection.executemany("INSERT INTO runs VALUES (?,?,?,?,?,?)", rows)

    took = timed(insert)
    connection.close()
    return count / took


def taken(yard: Yard, count: int) -> float:
    """Runs a second of one POST with so many sets of parameters, to its answer; they are durable then."""
    wanted = parameters(count)
    batch = yard.submit(PROGRAMS / "trivial", manifest("trivial"), wanted)
    check(len(set(batch.ids)) == count, f"{count} runs were asked for and {len(set(batch.ids))} accepted")
    return count / ((batch.accepted - batch.called) / 1e9)


def bulk(context: Context) -> list[Row]:
    count = context.times(20_000, 2_000)
    ours, bare, command = list[float](), list[float](), list[float]()
    with context.yard(SLOTS) as yard:
        yard.run(PROGRAMS / "trivial", manifest("trivial"))
        yard.client.pause_queue()
        for _ in range(context.times(5, 2)):
            bare.append(bare_insert(context.folder, count))
            ours.append(taken(yard, count))
            command.append(by_command(yard, 1000))
        waiting = yard.client.queue().waiting
        check(waiting == len(ours) * (count + 1000), f"{len(ours) * (count + 1000)} runs were accepted, {waiting} wait")
    stick = sorted(bare)[len(bare) // 2]
    what = f"bulk submission, durable: one manifest, {count:,} sets of parameters"
    note = "yardstick: one `executemany` of as many rows into an indexed SQLite table, synchronous=FULL"
    return [
        row(what, "runs/s", ours, ">= 20,000", yardstick=stick, note=note),
        row("1,000 runs by the CLI, its start to its end", "s", command, "<= 1"),
    ]


def by_command(yard: Yard, count: int) -> float:
    folder = PROGRAMS / "trivial"
    words = ("train", str(folder), str(folder / "manifest.yml"), "--args", "--set", f"n=0..{count - 1}:{count}")
    answer: list[object] = []
    took = timed(lambda: answer.append(yard.runyard.ask_record(*words)["ids"]))
    check(len(answer[0]) == count, f"{count} runs were asked for and {len(answer[0])} accepted")  # type: ignore[arg-type]  # ids
    return took


@dataclass(frozen=True, slots=True)
class Rate:
    """Runs that ended in a second, by the server's clock; ``cpu_ms``: of the server for each of them."""

    runs_s: float
    cpu_ms: float


def rate(yard: Yard, depth: int, counted: int) -> Rate:
    """How fast runs are taken while ``depth`` wait behind them all the time.

    The queue is held while it fills, and who listens begins behind the events of the submission: to be told of two
    hundred thousand takes half a minute, in which all ends that are counted would have been long ago.
    """
    yard.client.pause_queue()
    batch = yard.submit(PROGRAMS / "trivial", manifest("trivial"), parameters(depth + counted + 2 * SHARE))
    yard.skip_to(batch.ids[-1])
    yard.client.resume_queue()
    yard.wait(batch, SHARE)
    before = server_cpu_ms(yard)
    yard.wait(batch, counted)
    spent = server_cpu_ms(yard) - before
    times = sorted(batch.ended.values())
    check(len(times) == counted + SHARE, f"{counted + SHARE} ends were waited for and {len(times)} heard of")
    drain(yard, batch)
    return Rate(counted / ((times[-1] - times[SHARE - 1]) / 1e3), spent / counted)


def server_cpu_ms(yard: Yard) -> float:
    """Processor time of the server until now."""
    return sum(each.cpu_s * 1e3 for each in yard.processes().values() if each.role == "server")


def drain(yard: Yard, batch: Batch) -> None:
    """Cancel what is left, and wait until nothing of it runs."""
    yard.client.cancel_many(states=["waiting", "starting", "running"])
    deadline = time.monotonic() + 120
    while any(yard.client.status().counts.get(state) for state in ("waiting", "starting", "running", "storing")):
        check(time.monotonic() < deadline, f"{len(batch.ids)} runs were canceled and some are not final yet")
        time.sleep(0.2)


def dispatch(context: Context) -> list[Row]:
    deep, counted = context.times(100_000, 5_000), context.times(400, 60)
    shallow, depths = list[Rate](), list[Rate]()
    with context.yard(SLOTS) as yard:
        yard.warmed(PROGRAMS / "trivial", manifest("trivial"), {"n": 0}, patience=20)
        for number in range(context.times(5, 1)):
            for depth, found in ((100, shallow), (deep, depths))[:: (1, -1)[number % 2]]:
                found.append(rate(yard, depth, counted))
    ratios = [mine.runs_s / other.runs_s for mine, other in zip(depths, shallow, strict=True)]
    spent = [mine.cpu_ms / other.cpu_ms for mine, other in zip(depths, shallow, strict=True)]
    return [
        row(f"dispatch rate at {deep:,} waiting / at 100", "x", ratios, ">= 0.9"),
        row(f"dispatch rate at {deep:,} waiting", "runs/s", [each.runs_s for each in depths]),
        row("dispatch rate at 100 waiting", "runs/s", [each.runs_s for each in shallow]),
        row(f"the server's processor time a run at {deep:,} waiting / at 100", "x", spent),
        row("the server's processor time a run at 100 waiting", "ms", [each.cpu_ms for each in shallow]),
    ]


BULK = Measure("bulk", "bulk submission; 1,000 runs by the CLI", bulk)
DISPATCH = Measure("dispatch", "dispatch rate at 100,000 waiting / at 100", dispatch)
