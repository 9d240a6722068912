"""`python -m bench chaos --seed N`: the campaign, its audit, its table."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.chaos import leftovers, pair, report
from bench.chaos.audit import Audit
from bench.chaos.blows import BLOWS, Striker, possible, schedule
from bench.chaos.hours import Hours
from bench.chaos.load import Load
from bench.chaos.pair_blows import PAIR
from bench.chaos.place import opened
from bench.chaos.reality import boottime
from bench.machine import end_in_order, load
from bench.yard import Yard
from runyard.client import Run
from runyard.client.errors import ClientError, TimedOut

OWN_MOUNTS = "RUNYARD_CHAOS_OWN_MOUNTS"
SLOTS = 8
TURNS = 40
"""So often a blow that has found no victim is tried again."""
LAST_ENDS_S = 300.0


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=1000, help="blows, of all kinds together")
    parser.add_argument("--runs", type=int, default=200, help="at the least; more are asked for as these end")
    parser.add_argument("--quick", action="store_true", help="28 blows, 40 runs, no object store of its own")
    parser.add_argument("--pair", action="store_true", help="two servers on PostgreSQL and three nodes")
    parser.add_argument("--write", action="store_true", help="write docs/chaos.md with this campaign in it")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--within", type=float, default=3600, metavar="S", help="no more blows after so long")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a campaign that found something")
    return parser.parse_args(words)


def in_own_mounts() -> None:
    """As root: start again in a mount namespace of our own, so that the small file systems end with us."""
    if os.geteuid() == 0 and OWN_MOUNTS not in os.environ and shutil.which("unshare"):
        words = ["unshare", "--mount", sys.executable, "-m", "bench", *sys.argv[1:]]
        if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0:
            os.execvpe("unshare", words, {**os.environ, OWN_MOUNTS: "1"})


def bare_start(tries: int) -> float:
    """Seconds that the server's imports alone take now: what no restart can be faster than."""
    times: list[float] = []
    for _ in range(tries):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-P", "-c", "import runyard.server"], check=True)
        times.append(time.perf_counter() - began)
    return median(times)


def struck(striker: Striker, order: list[str], within: float) -> None:
    """All blows; one without a victim is tried again later, with the others that had none."""
    deadline, left, turns = time.monotonic() + within, order, 0
    while left and turns < TURNS and time.monotonic() < deadline:
        missed: list[str] = []
        for number, name in enumerate(left):
            if time.monotonic() > deadline:
                break
            if not striker.strike(name):
                missed.append(name)
                time.sleep(0.05)
            if number % 50 == 0 and turns == 0:
                print(f"  {sum(striker.struck.counts.values())} of {len(order)} blows", flush=True)
        left, turns = missed, turns + 1
    if left:
        print(f"  without a victim, or out of time: {len(left)} blows ({', '.join(sorted(set(left)))})", flush=True)


def waited(yard: Yard, ids: Sequence[str]) -> list[Run]:
    """All runs, final or not: those that are not after so long are told by the audit."""
    deadline = time.monotonic() + LAST_ENDS_S
    while time.monotonic() < deadline:
        try:
            return yard.client.wait(list(ids), timeout=deadline - time.monotonic())
        except TimedOut:
            break
        except ClientError:
            time.sleep(0.5)
    return [yard.client.run(each) for each in ids]


def campaign(given: argparse.Namespace, folder: Path) -> report.Campaign:
    """One campaign from up to down."""
    kills, least = (28, 40) if given.quick else (given.kills, given.runs)
    bare, began = bare_start(1 if given.quick else 3), boottime()
    kinds, store = PAIR if given.pair else BLOWS, not given.quick
    with pair.opened(folder, store=store) if given.pair else opened(folder, SLOTS, store=store) as place:
        asking = Load(place, given.seed, least, 12 if given.quick else 60)
        striker = Striker(place, given.seed, 0.1, kinds)
        hours = Hours(place.files / "clock.json")
        hours.start()
        asking.start()
        struck(striker, [name for name in schedule(given.seed, kills, kinds) if possible(name, place)], given.within)
        asking.stop()
        print(f"  {len(asking.asked.kinds)} runs accepted; waiting for the last ends", flush=True)
        runs = [place.yard.client.run(run.id) for run in waited(place.yard, list(asking.asked.kinds))]
        elapsed = boottime() - began
        hours.stop()
        verdict = Audit(place, asking.asked, striker.struck.programs, hours).all(runs, round(elapsed * 1000))
        if asking.problem:
            verdict.say("lost", f"the load broke off: {asking.problem}")
        missing = [
            what
            for what, there in (
                ("full disks (no right to mount)", place.disks),
                ("the object store", place.store),
                ("the clock (no C compiler)", place.clock),
            )
            if not there
        ]
        homes, disks = [each.parent for each in place.nodes], place.disks
    for home in homes:
        for sentence in leftovers.left(home, disks):
            verdict.say("left over", sentence)
    blows = striker.struck
    return report.Campaign(
        given.seed,
        blows.counts,
        {name: [round(each, 3) for each in seconds] for name, seconds in blows.took.items()},
        blows.never,
        dict(verdict.seen),
        dict(verdict.outcomes),
        verdict.faults,
        asking.asked.trouble,
        round(elapsed, 1),
        round(load(), 1),
        round(bare, 3),
        missing,
        given.pair,
    )


def main(words: Sequence[str]) -> int:
    """Exit code: 0 when nothing was lost, doubled or billed wrongly, else 1."""
    given = arguments(words)
    in_own_mounts()
    end_in_order()
    folder = Path(tempfile.mkdtemp(prefix="runyard-chaos-"))
    clean = False
    try:
        done = campaign(given, folder)
        clean = done.clean
        print(report.shown(done), flush=True)
        if given.json is not None:
            given.json.write_text(json.dumps(done.document(), indent=1) + "\n", encoding="utf-8")
        if given.write:
            report.write(report.kept(done))
    finally:
        if given.keep and not clean:
            print(f"kept: {folder}")
        else:
            for each in ("home/server", "home/node"):
                subprocess.run(["umount", "-l", str(folder / each)], capture_output=True, check=False)
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if clean else 1
