"""``python -m bench soak --day``: 24 simulated hours of a server in one process, and whether anything in it grows."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from bench.soak.holding import Held, held
from bench.soak.town import MACHINES, Town
from bench.values import number
from runyard.engine.readiness import MANY_READY
from runyard.engine.world import MOST_CLASSES
from runyard.shim.heaps import few_heaps
from tools import screen

HOURS = 24
FIRST, LAST = (0.25, 0.375), (0.875, 1.0)
"""The parts of the day that are compared: hours 6 to 9 and 21 to 24. Caches and pools have filled by the first."""
MORE_OBJECTS, MORE_MB, MORE_SHARE = 0.02, 3.0, 0.03
FACTOR, SPARE = 1.3, 24
"""A container grows when the least of it at the end is above so many times the most of it before, and so many more."""
BOUNDS: Mapping[str, int] = {
    ".gate.throttle._failures": 10_000,
    ".world.logs._open._streams": 128,
    ".world.pace._means": MOST_CLASSES,
    ".world.ready._alike[]": MACHINES * 1024,
    ".world.ready._contents": 1024,
    ".world.ready._ready[]": MACHINES * 3 * MANY_READY,
    ".world.specs._members": 256,
    ".world.specs._specs": 256,
}
"""Containers that a day does not fill: below what the code allows them they may grow."""


@dataclass(slots=True)
class Done:
    """What the day was made of. ``stale``: facts that were of a fenced or ended attempt; ``fenced``: machines that were
    given up; ``swept``: parts of runs that went; ``refused``: what people were refused, by request and status."""

    runs: int = 0
    requests: int = 0
    facts: int = 0
    stale: int = 0
    fenced: int = 0
    swept: int = 0
    took_s: float = 0.0
    states: dict[str, int] = field(default_factory=dict[str, int])
    refused: dict[str, int] = field(default_factory=dict[str, int])


def lived(hours: float, folder: Path, *, seed: int = 1, looks: int = HOURS, told: Callable[[Held], None]) -> Done:
    """Live so many hours and look so often; each look is ``told``."""
    began = time.monotonic()
    town = Town(folder, seed)
    try:
        for index in range(1, looks + 1):
            while town.hours < hours * index / looks:
                town.pass_by()
            told(held(round(town.hours, 3), town.people.runs, town.context, town.database))
        states = Counter({state.value: count for state, count in town.world.store.counts(None).items()})
        return Done(
            runs=town.people.runs,
            requests=town.asking.count,
            facts=town.fleet.facts,
            stale=town.fleet.stale,
            fenced=town.fenced,
            swept=town.swept,
            took_s=time.monotonic() - began,
            states=dict(states),
            refused=town.people.refused,
        )
    finally:
        town.close()


def window(looks: Sequence[Held], part: tuple[float, float]) -> Sequence[Held]:
    """The looks of a part of the day."""
    whole = looks[-1].hour
    return [each for each in looks if part[0] * whole <= each.hour <= part[1] * whole]


def growths(looks: Sequence[Held]) -> list[str]:
    """What holds more at the end of the day than after its first quarter, each in a sentence."""
    first, last = window(looks, FIRST), window(looks, LAST)
    found: list[str] = []
    objects = [median(each.objects for each in those) for those in (first, last)]
    if objects[1] > objects[0] * (1 + MORE_OBJECTS):
        found.append(f"objects: {objects[0]:.0f}, then {objects[1]:.0f}")
    memory = [median(each.rss_mb for each in those) for those in (first, last)]
    if memory[1] - memory[0] > max(MORE_MB, MORE_SHARE * memory[0]):
        found.append(f"resident memory: {memory[0]:.1f} MB, then {memory[1]:.1f} MB")
    for what in ("descriptors", "threads"):
        most, least = max(getattr(each, what) for each in first), min(getattr(each, what) for each in last)
        if least > most:
            found.append(f"{what}: {most} at most, then {least} at least")
    return found + [f"{path}: {course(looks, path)}" for path in growing(first, last)]


def growing(first: Sequence[Held], last: Sequence[Held]) -> list[str]:
    """The containers that grow, by their paths: beyond their bound, where they have one."""
    paths = sorted({path for each in last for path in each.lengths})
    most = {path: max(each.lengths.get(path, 0) for each in first) for path in paths}
    least = {path: min(each.lengths.get(path, 0) for each in last) for path in paths}
    return [
        path
        for path in paths
        if least[path] > BOUNDS.get(path, 0) and least[path] > FACTOR * most[path] and least[path] > most[path] + SPARE
    ]


def course(looks: Sequence[Held], path: str) -> str:
    """How long a container was at each look."""
    return " ".join(str(each.lengths.get(path, 0)) for each in looks)


def table(looks: Sequence[Held]) -> str:
    """For people: a line a look, and the five longest containers of the last."""
    heads = ["hour", "runs so far", "MB", "objects", "descriptors", "threads", "in containers", "recorded runs", "rows"]
    lines = [
        [
            f"{each.hour:g}",
            str(each.runs),
            f"{each.rss_mb:.1f}",
            str(each.objects),
            str(each.descriptors),
            str(each.threads),
            str(sum(each.lengths.values())),
            str(each.rows.get("runs", 0)),
            str(sum(each.rows.values())),
        ]
        for each in looks
    ]
    longest = sorted(looks[-1].lengths, key=lambda path: -looks[-1].lengths[path])[:5]
    courses = [[path, course(looks, path)] for path in longest]
    return screen.table(heads, lines) + "\n\n" + screen.table(["the longest containers", "by look"], courses)


def summary(done: Done) -> str:
    """What was done, in sentences."""
    states = _counted(done.states)
    return (
        f"{done.runs} runs in {done.took_s:.0f} s ({number(done.took_s / max(1, done.runs) * 1000)} ms each); recorded "
        f"at the end: {states}. {done.requests} requests of people, {done.facts} facts of machines ({done.stale} of "
        f"them stale), {done.fenced} machines fenced, {done.swept} parts of runs gone by retention. Refused: "
        f"{_counted(done.refused)}."
    )


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {word}" for word, count in sorted(counts.items())) or "nothing"


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench soak --day", description=__doc__)
    parser.add_argument("--hours", type=float, default=HOURS, help="simulated; with less than 12 there is no verdict")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write what was seen there")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    """Exit code: 0 when nothing grows, else 1."""
    given = arguments(words)
    few_heaps()  # as the server does
    looks: list[Held] = []

    def told(look: Held) -> None:
        looks.append(look)
        print(f"hour {look.hour:g}: {look.runs} runs, {look.rss_mb:.1f} MB, {look.objects} objects", flush=True)

    with tempfile.TemporaryDirectory(prefix="runyard-day-") as folder:
        done = lived(given.hours, Path(folder) / "server", seed=given.seed, told=told)
    found = growths(looks) if given.hours >= HOURS / 2 else []
    print("\n" + table(looks) + "\n\n" + summary(done) + "\n")
    flat = "Nothing grows." if given.hours >= HOURS / 2 else "That was too short for a verdict."
    print("\n".join(f"GROWS: {each}" for each in found) or flat)
    if given.json is not None:
        document = {"done": asdict(done), "grows": found, "looks": [asdict(each) for each in looks]}
        given.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 1 if found else 0
