"""How long one plan takes: a large cluster, empty or full, and a deep queue."""

from __future__ import annotations

import gc
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from runyard.core.resources import Resources
from runyard.core.scheduling.plan import make_plan
from runyard.core.scheduling.snapshot import AccountRoom, Busy, Head, NodeRoom, QueueClass, Snapshot

NOW = 1_700_000_000_000
HOUR = 3_600_000
GPUS = (1, 1, 1, 1, 2, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Size:
    """How large: machines of 8 GPUs, accounts, runs that wait; ``heads``: how many of a class a plan sees."""

    machines: int = 1_250
    accounts: int = 50
    waiting: int = 100_000
    heads: int = 64


def shape(gpus: int) -> Resources:
    """A run's share of a machine with 8 GPUs, 96 CPUs and 768 GiB."""
    return Resources(gpus, gpus * 12_000, gpus * 96 * 1_024)


def cluster(size: Size, *, full: bool, met: bool = True, seed: int = 1) -> Snapshot:
    """A snapshot: nothing runs, or every machine is full but for ten that an attempt has just left.

    ``met``: every account holds about what is due to it; else half of them take room back from the others.
    """
    chance = random.Random(seed)
    names = [f"a{n:03d}" for n in range(size.accounts)]
    busy = tuple(_busy(size, chance, names)) if full else ()
    nodes = tuple(_machines(size, busy))
    held = Counter[str]()
    for each in busy:
        held[each.account_id] += each.resources.gpus
    accounts = tuple(
        AccountRoom(name, None, 0, weight=float(held[name] or 1) if met else 1.0, used_ms=chance.uniform(0, 1e12))
        for name in names
    )
    return Snapshot(NOW, nodes, accounts, tuple(_queue(size, chance, names)), depth=size.heads, busy=busy)


def _busy(size: Size, chance: random.Random, names: Sequence[str]) -> list[Busy]:
    found: list[Busy] = []
    for machine in range(size.machines):
        slot = 0 if machine % (size.machines // 10) else 1
        while slot < 8:
            gpus = min(chance.choice(GPUS), 8 - slot)
            since = NOW - chance.randrange(10 * HOUR)
            slots = tuple(range(slot, slot + gpus))
            ends = NOW + chance.randrange(24 * HOUR)
            name = f"run-{machine}-{slot}"
            found.append(
                Busy(name, 1, gpus, chance.choice(names), f"n{machine:05d}", slots, shape(gpus), 50, since, ends)
            )
            slot += gpus
    return found


def _machines(size: Size, busy: Sequence[Busy]) -> list[NodeRoom]:
    taken: dict[str, set[int]] = {}
    for each in busy:
        taken.setdefault(each.node_id, set()).update(each.slots)
    rooms: list[NodeRoom] = []
    for n in range(size.machines):
        name = f"n{n:05d}"
        free = tuple(slot for slot in range(8) if slot not in taken.get(name, ()))
        rooms.append(NodeRoom(name, free, shape(len(free))))
    return rooms


def _queue(size: Size, chance: random.Random, names: Sequence[str]) -> list[QueueClass]:
    """Classes of account, priority and shape, with limits of 1, 4 or 24 hours, or none."""
    keys = [(name, priority, gpus) for name in names for priority in (40, 50, 60) for gpus in (1, 2, 4, 8)]
    waiting: dict[tuple[str, int, int], list[Head]] = {}
    ready = Counter[tuple[str, int, int]]()
    for rank in range(size.waiting):
        limit = chance.choice((HOUR, 4 * HOUR, 24 * HOUR, None))
        key = chance.choice(keys)
        ready[key] += 1
        heads = waiting.setdefault(key, [])
        if len(heads) < size.heads:
            heads.append(Head(f"training-{rank:09d}", rank, "", limit_ms=limit))
    return [
        QueueClass(n, name, priority, shape(gpus), tuple(heads), ready[(name, priority, gpus)])
        for n, ((name, priority, gpus), heads) in enumerate(waiting.items())
    ]


def timed(snapshot: Snapshot, times: int) -> list[float]:
    """Milliseconds of CPU of some plans of one snapshot, each from nothing."""
    taken: list[float] = []
    for _ in range(times):
        gc.collect()
        begun = time.process_time()
        make_plan(snapshot)
        taken.append((time.process_time() - begun) * 1_000)
    return taken


def table(size: Size, times: int = 9) -> list[tuple[str, float, float, float]]:
    """Rows of what was planned and its median, least and most milliseconds."""
    rows: list[tuple[str, float, float, float]] = []
    every = Size(size.machines, size.accounts, size.waiting, size.waiting)
    cases = [
        ("the first plan, from empty", cluster(size, full=False)),
        ("a cycle, as deep as a plan looks", cluster(size, full=True)),
        ("a cycle that takes borrowed room back", cluster(size, full=True, met=False)),
        ("a cycle, every waiting run a head", cluster(every, full=True)),
    ]
    for name, snapshot in cases:
        taken = timed(snapshot, times)
        rows.append((name, median(taken), min(taken), max(taken)))
    return rows
