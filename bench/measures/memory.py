"""What the service takes while it waits and while it runs: private bytes of a run, shares of memory of each part."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from statistics import median

from bench.context import Context
from bench.measures.stopping import record
from bench.processes import Process, memory, pss, tree
from bench.processes import private as private_bytes
from bench.values import Measure, Row, check, row
from bench.yard import PROGRAMS, Yard, manifest, parameters
from tools.environment import program
from tools.runyard_cli import Runyard

MB = 1e6
HOLD_S = 600


def of_role(yard: Yard, role: str) -> list[Process]:
    return [process for process in yard.processes().values() if process.role == role]


def share(yard: Yard, role: str) -> float:
    """MB of all processes of a role, shared pages in shares."""
    return pss(process.pid for process in of_role(yard, role)) / MB


def wait_for_reports(yard: Yard, runs: Sequence[str]) -> list[dict[str, object]]:
    """What each program told when it had trained; it holds all it has in memory since then."""
    deadline = time.monotonic() + 180
    for run in runs:
        while b'"digest"' not in yard.client.log(run):
            state = yard.client.run(run).state
            check(state in ("waiting", "starting", "running"), f"{run} is {state} and should hold its memory")
            check(time.monotonic() < deadline, f"{run} did not come to its end within three minutes")
            time.sleep(0.1)
    return [yard.told(run) for run in runs]


def program_tree(yard: Yard, run: str) -> set[int]:
    """The processes of a run's program: what its shim started, and the init of its namespace."""
    return set(tree(int(str(record(yard, run)["pid"]))))


def held(yard: Yard, count: int, text: str) -> tuple[list[float], list[float]]:
    """MB of each of so many training programs at once: private bytes with a share of shims and node, tensors left out;
    and PSS of the program alone."""
    node_before = private_bytes(process.pid for process in of_role(yard, "node"))
    batch = yard.submit(PROGRAMS / "train", text, parameters(count, epochs=2, hold=HOLD_S))
    told = wait_for_reports(yard, batch.ids)
    time.sleep(1.0)
    programs = [program_tree(yard, run) for run in batch.ids]
    every = set[int]().union(*programs)
    node = [process.pid for process in of_role(yard, "node")]
    grown = max(0, private_bytes(node) - node_before) / count
    helpers = [p for p in yard.processes().values() if p.role in ("shim", "warm shim") and p.pid not in every]
    inits = [p for p in yard.processes().values() if p.role in ("program", "warm parent") and p.pid not in every]
    own_inits = [p.pid for p in inits if any(p.pid == _parent_of(pids, yard) for pids in programs)]
    shared = (private_bytes(p.pid for p in helpers) + private_bytes(own_inits)) / count
    tensors = [float(str(each["tensor_bytes"])) for each in told]
    found = [(private_bytes(pids) + shared + grown - size) / MB for pids, size in zip(programs, tensors, strict=True)]
    shares = [pss(pids) / MB for pids in programs]
    yard.client.cancel_many(batch.ids)
    yard.wait(batch)
    return found, shares


def clean_pages(yard: Yard, count: int, text: str) -> list[float]:
    """MB of each of so many training programs at once that are clean pages of files which it alone has mapped: the
    kernel has them once for the whole machine, and gives them up when it needs the room."""
    batch = yard.submit(PROGRAMS / "train", text, parameters(count, epochs=2, hold=HOLD_S))
    wait_for_reports(yard, batch.ids)
    time.sleep(1.0)
    pids = [program_tree(yard, run) for run in batch.ids]
    found = [sum(memory(pid).get("Private_Clean", 0) for pid in each) / MB for each in pids]
    yard.client.cancel_many(batch.ids)
    yard.wait(batch)
    return found


def _parent_of(pids: set[int], yard: Yard) -> int:
    every = yard.processes()
    return next((every[pid].parent for pid in pids if pid in every and every[pid].parent not in pids), 0)


def runs_in_memory(context: Context) -> list[Row]:
    at_once = context.times(8, 2)
    text = manifest("train", grace="1s")
    with context.yard(at_once) as yard:
        yard.push_digits()
        way = yard.warmed(PROGRAMS / "train", text, {"epochs": 1})
        void = "" if way == "warm" else "not started warm"
        one, one_share = held(yard, 1, text)
        clean = clean_pages(yard, 1, text)
        many, many_share = held(yard, at_once, text)
        cold, cold_share = held(yard, 1, manifest("train", grace="1s", warm="off"))
        parts = {role: share(yard, role) for role in ("warm parent", "warm shim", "launcher", "supervisor")}
    what = "private memory of a torch program, its shim and its share of the node, tensors left out"
    rows = [
        row(f"{what}: 1 at once", "MB", one, "<= 25", yardstick=median(cold), void=void),
        row(f"{what}: {at_once} at once", "MB", many, "<= 25", yardstick=median(cold), void=void),
        row(f"{what}: of the 1 at once, clean pages of files", "MB", clean),
        row(f"{what}: exec, 1 at once (yardstick)", "MB", cold),
        row("PSS of a torch program: warm, 1 at once", "MB", one_share, yardstick=median(cold_share)),
        row(f"PSS of a torch program: warm, {at_once} at once", "MB", many_share, yardstick=median(cold_share)),
        row("PSS of a torch program: exec, 1 at once", "MB", cold_share),
    ]
    return rows + [row(f"PSS with a torch parent up: {role}", "MB", [size]) for role, size in parts.items() if size]


def shim_share(yard: Yard) -> list[float]:
    """MB of each of three shims of the exec way, while their programs wait."""
    batch = yard.submit(PROGRAMS / "stubborn", manifest("stubborn", warm="off"), parameters(3))
    for run in batch.ids:
        record(yard, run)
    found = [pss([int(str(record(yard, run)["shim_pid"]))]) / MB for run in batch.ids]
    yard.client.cancel_many(batch.ids)
    yard.wait(batch)
    return found


def services(context: Context) -> list[Row]:
    deep = context.times(100_000, 2_000)
    rows: list[Row] = []
    with context.yard(3) as yard:
        batch = yard.run(PROGRAMS / "trivial", manifest("trivial"), parameters(20))
        check(len(batch.finished) == 20, "the runs before the look at idle memory did not all end")
        time.sleep(2)
        rows.append(row("PSS of the server, idle", "MB", [share(yard, "server")], "<= 110"))
        rows.append(row("PSS of the node, idle", "MB", [share(yard, "node")], "<= 40"))
        rows.append(row("PSS of the supervisor of `up`", "MB", [share(yard, "supervisor")]))
        rows.append(row("PSS of a shim, exec, 3 at once", "MB", shim_share(yard)))
        yard.client.pause_queue()
        yard.submit(PROGRAMS / "trivial", manifest("trivial"), parameters(deep))
        waiting = yard.client.queue().waiting
        check(waiting >= deep, f"{deep} runs were submitted and {waiting} wait")
        time.sleep(2)
        rows.append(row(f"PSS of the server with {deep:,} waiting", "MB", [share(yard, "server")], "<= 150"))
        rows.append(row(f"PSS of the node with {deep:,} waiting", "MB", [share(yard, "node")], "<= 40"))
        yard.client.cancel_many(states=["waiting"])
    return rows


def start_up(context: Context) -> list[Row]:
    """`up --detach` to its return, and to a node that has joined."""
    returned, joined = list[float](), list[float]()
    for number in range(context.times(5, 1)):
        folder = context.folder / f"up-{number}"
        folder.mkdir()
        runyard = Runyard(folder)
        began = time.perf_counter()
        runyard.ask("up", "--detach", "--fake-gpus", "1", "--port", "0")
        returned.append(time.perf_counter() - began)
        try:
            while not any(node["connected"] for node in json.loads(runyard.ask("status", "--json"))["nodes"]):
                check(time.perf_counter() - began < 60, "no node joined within a minute")
            joined.append(time.perf_counter() - began)
        finally:
            runyard.ask("down")
    return [
        row("`up --detach` to its return", "s", returned),
        row("`up --detach` to a node that has joined", "s", joined),
    ]


def run(context: Context) -> list[Row]:
    check(program("python").exists(), "the project's environment is gone")
    return services(context) + start_up(context) + runs_in_memory(context)


MEASURE = Measure("memory", "memory of a run, of server and node; start of `up`", run)
