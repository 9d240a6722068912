"""Many short runs at once on two slots: 40 that train for a moment, 200 that do nothing; and how long a slot stands
empty between two of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from bench.context import Context
from bench.machine import busy_s
from bench.processes import spent
from bench.values import Measure, Row, Untrue, check, percentile, row
from bench.yard import DIGITS, PROGRAMS, Batch, Yard, manifest, parameters
from bench.yardstick import timed, xargs
from runyard.client import Run

SLOTS = 2
SCRIPT = PROGRAMS / "trivial" / "trivial.py"
TRAIN = PROGRAMS / "train" / "train.py"


@dataclass(frozen=True, slots=True)
class Training:
    """What some short training runs came to: seconds for all, their own compute, the digest of each."""

    seconds: float
    compute_s: tuple[float, ...]
    digests: tuple[str, ...]

    @property
    def ratio(self) -> float:
        return self.seconds / (sum(self.compute_s) / SLOTS)


def trained(seconds: float, told: Sequence[dict[str, object]]) -> Training:
    return Training(
        seconds,
        tuple(float(str(each["compute_s"])) for each in told),
        tuple(str(each["digest"]) for each in told),
    )


def bare_training(count: int) -> Training:
    found: list[str] = []
    seconds = timed(lambda: found.append(xargs(TRAIN, count, SLOTS, env={"DATA_DIR": str(DIGITS)})))
    told = [json.loads(line) for line in found[0].splitlines() if line.startswith("{")]
    check(len(told) == count, f"xargs started {count} training runs and {len(told)} told of their end")
    return trained(seconds, told)


def our_training(yard: Yard, text: str, count: int) -> tuple[Training, Batch]:
    batch = yard.run(PROGRAMS / "train", text, parameters(count))
    return trained(batch.seconds, [yard.told(run) for run in batch.ids]), batch


def training(context: Context) -> list[Row]:
    count, repeat = context.times(40, 10), context.times(3, 1)
    text = manifest("train")
    warm, cold, plain, notes = list[Training](), list[Training](), list[Training](), set[str]()
    for _ in range(repeat):
        plain.append(bare_training(context.times(10, 4)))
        with context.yard(SLOTS) as yard:
            yard.push_digits()
            found, _ = our_training(yard, text, count)
            cold.append(found)
            yard.warmed(PROGRAMS / "train", text, {"epochs": 1})
            found, batch = our_training(yard, text, count)
            warm.append(found)
            notes.add(batch.not_warm)
    digests = {digest for each in warm + cold + plain for digest in each.digests}
    check(len(digests) == 1, f"runs with one seed learnt {len(digests)} different things: {sorted(digests)}")
    bare = sorted(each.ratio for each in plain)[len(plain) // 2]
    what = f"{count} short torch runs, {SLOTS} slots: submit to the last `completed` / ideal"
    void = "; ".join(sorted(notes - {""}))
    note = f"weights bit-identical in all {sum(len(each.digests) for each in warm + cold + plain)} runs, bare ones too"
    return [
        row(f"{what}: warm", "x", [t.ratio for t in warm], "<= 1.15", yardstick=bare, note=note, void=void),
        row(f"{what}: cold", "x", [t.ratio for t in cold], "<= 1.35", yardstick=bare, note="a service just started"),
        row(f"the same by `xargs -P{SLOTS}`, fresh interpreters (yardstick)", "x", [t.ratio for t in plain]),
        row("their own compute, each", "s", [each for t in warm for each in t.compute_s]),
    ]


def moment(value: datetime | None) -> float:
    if value is None:
        raise Untrue("a completed run does not tell when its program began or ended")
    return value.timestamp() * 1000


def turnarounds(runs: Sequence[Run]) -> list[float]:
    """Ms from the end of one program to the begin of the next in the same slot, as their shims recorded them."""
    slots: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
    for run in runs:
        attempt = run.attempts[-1]
        for slot in attempt.slots:
            slots[slot].append((moment(attempt.started_at), moment(attempt.released_at)))
    found: list[float] = []
    for times in slots.values():
        times.sort()
        for (_, ended), (begun, _) in pairwise(times):
            check(begun >= ended, "two programs were in one slot at once")
            found.append(begun - ended)
    return found


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU seconds by role for some runs; ``whole``: of the whole machine."""

    runs: int
    roles: dict[str, float]
    whole: float

    def each_ms(self, role: str) -> float:
        return self.roles.get(role, 0.0) / self.runs * 1000


def our_trivial(yard: Yard, text: str, count: int) -> tuple[Batch, Costs, list[float]]:
    before, busy = yard.processes(), busy_s()
    batch = yard.wait(yard.submit(PROGRAMS / "trivial", text, parameters(count)))
    costs = Costs(count, spent(before, yard.processes()), busy_s() - busy)
    yard.completed(batch)
    runs = [yard.client.run(each) for each in batch.ids]
    check(b"ran --n" in yard.client.log(batch.ids[-1]), "the log of a trivial run lacks its line")
    return batch, costs, turnarounds(runs)


def trivial(context: Context) -> list[Row]:
    count, repeat = context.times(200, 50), context.times(5, 2)
    ways = {"warm": manifest("trivial"), "exec": manifest("trivial", warm="off")}
    seconds: dict[str, list[float]] = {way: [] for way in (*ways, "xargs")}
    gaps: dict[str, list[float]] = {way: [] for way in ways}
    costs: dict[str, list[Costs]] = {way: [] for way in ways}
    void, bare_cpu = dict.fromkeys(ways, ""), list[float]()
    with context.yard(SLOTS) as yard:
        for text in ways.values():
            yard.warmed(PROGRAMS / "trivial", text, {"n": 0}, patience=20 if text == ways["warm"] else 0)
        for _ in range(repeat):
            yard.rest()
            busy = busy_s()
            seconds["xargs"].append(timed(lambda: xargs(SCRIPT, count, SLOTS)))
            bare_cpu.append((busy_s() - busy) / count * 1000)
            for way, text in ways.items():
                batch, cost, empty = our_trivial(yard, text, count)
                seconds[way].append(batch.seconds)
                costs[way].append(cost)
                gaps[way] += empty
                void[way] = batch.not_warm if way == "warm" else ""
    return trivial_rows(count, seconds, gaps, costs, void, bare_cpu)


def trivial_rows(
    count: int,
    seconds: dict[str, list[float]],
    gaps: dict[str, list[float]],
    costs: dict[str, list[Costs]],
    void: dict[str, str],
    bare_cpu: list[float],
) -> list[Row]:
    rows: list[Row] = []
    stick = sorted(seconds["xargs"])[len(seconds["xargs"]) // 2]
    for way, target in (("warm", "<= 1.3"), ("exec", "")):
        ratios = [mine / bare for mine, bare in zip(seconds[way], seconds["xargs"], strict=True)]
        what = f"{count} trivial runs, {SLOTS} slots: submit to the last `completed` / `xargs -P{SLOTS}`"
        rows.append(row(f"{what}: {way}", "x", ratios, target, void=void[way]))
        rows.append(row(f"the same, seconds: {way}", "s", seconds[way], yardstick=stick))
        p50, p99 = (percentile(gaps[way], share) for share in (0.5, 0.99))
        slot = "slot: kernel exit of one program to the start of the next"
        target50, target99 = ("<= 15", "<= 75") if way == "warm" else ("", "")
        rows.append(row(f"{slot}, p50: {way}", "ms", gaps[way], target50, ours=p50, void=void[way]))
        rows.append(row(f"{slot}, p99: {way}", "ms", gaps[way], target99, ours=p99, void=void[way]))
        for role in sorted({role for cost in costs[way] for role in cost.roles}):
            rows.append(row(f"CPU a trivial run, {way}: {role}", "ms", [cost.each_ms(role) for cost in costs[way]]))
        whole = [cost.whole / cost.runs * 1000 for cost in costs[way]]
        note = "everything that ran on the machine meanwhile"
        rows.append(row(f"CPU a trivial run, {way}: the whole machine", "ms", whole, note=note))
    rows.append(row("CPU a trivial run, `xargs`: the whole machine (yardstick)", "ms", bare_cpu))
    return rows


def run_trivial(context: Context) -> list[Row]:
    return trivial(context)


TRAINING = Measure("torch", "40 short torch runs on 2 slots: submit -> last `completed` / (own compute / 2)", training)
TRIVIAL = Measure("trivial", "200 trivial runs on 2 slots / xargs -P2; an empty slot; CPU a run", run_trivial)
