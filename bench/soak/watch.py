"""What the processes of an installation hold, looked at again and again: memory, descriptors, threads."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.processes import tree

LASTING = ("server", "node", "supervisor", "launcher", "warm shim", "warm parent")
"""Processes that stay from the first run to the last."""
FIRST, LAST = (0.25, 0.40), (0.85, 1.0)
"""The parts of the time that are compared: caches and pools have filled by the first."""
GROWTH_MB, GROWTH_SHARE = 3.0, 0.03
MORE_DESCRIPTORS = 4
"""Beyond these it is not flat: what is above either limit of memory, or that many more descriptors or threads."""


@dataclass(frozen=True, slots=True)
class Look:
    """One process at one moment: seconds since the beginning; its proportional share of memory and what it has alone,
    in MB (processes that were forked of one share pages: its proportion grows when another one ends); descriptors,
    threads."""

    at_s: float
    pss_mb: float
    own_mb: float
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Course:
    """One process from the first window to the last."""

    role: str
    pid: int
    looks: int
    first: Look
    last: Look
    most_mb: float
    minutes: tuple[float, ...] = ()
    """Its own memory, minute by minute."""

    @property
    def grown_mb(self) -> float:
        return self.last.own_mb - self.first.own_mb

    @property
    def is_flat(self) -> bool:
        memory = self.grown_mb <= max(GROWTH_MB, GROWTH_SHARE * self.first.pss_mb)
        handles = self.last.descriptors - self.first.descriptors <= MORE_DESCRIPTORS
        return memory and handles and self.last.threads - self.first.threads <= MORE_DESCRIPTORS


def look(pid: int, at_s: float) -> Look | None:
    """None when the process is gone."""
    with contextlib.suppress(OSError, KeyError):
        place = Path(f"/proc/{pid}")
        words = [line.split() for line in (place / "smaps_rollup").read_text().splitlines()]
        kib = {each[0]: int(each[1]) for each in words if each[0] in ("Pss:", "Private_Clean:", "Private_Dirty:")}
        own = kib["Private_Clean:"] + kib["Private_Dirty:"]
        return Look(
            at_s, kib["Pss:"] / 1024, own / 1024, len(os.listdir(place / "fd")), len(os.listdir(place / "task"))
        )
    return None


class Watch(threading.Thread):
    """Looks at all lasting processes below a supervisor every few seconds, until it is ended."""

    def __init__(self, supervisor: int, every_s: float) -> None:
        super().__init__(name="watch", daemon=True)
        self._supervisor, self._every_s = supervisor, every_s
        self._over = threading.Event()
        self._began = time.monotonic()
        self.seen: defaultdict[tuple[str, int], list[Look]] = defaultdict(list)

    def run(self) -> None:
        while not self._over.wait(self._every_s):
            self.look()

    def look(self) -> None:
        """Once, at everything."""
        for pid, process in tree(self._supervisor).items():
            if process.role in LASTING and (found := look(pid, time.monotonic() - self._began)) is not None:
                self.seen[process.role, pid].append(found)

    def end(self) -> list[Course]:
        """The courses of those that were there from the first window to the last."""
        self._over.set()
        self.join()
        whole = time.monotonic() - self._began
        found = [course(role, pid, looks, whole) for (role, pid), looks in sorted(self.seen.items())]
        return [each for each in found if each is not None]


def course(role: str, pid: int, looks: list[Look], whole_s: float) -> Course | None:
    """None for a process that was not there in both windows."""
    first, last = (
        [each for each in looks if window[0] * whole_s <= each.at_s <= window[1] * whole_s] for window in (FIRST, LAST)
    )
    if not first or not last:
        return None
    most = max(each.pss_mb for each in looks)
    return Course(role, pid, len(looks), middle(first), middle(last), most, by_minute(looks))


def by_minute(looks: list[Look]) -> tuple[float, ...]:
    """The median of each minute, to a hundredth of a MB."""
    minutes: defaultdict[int, list[float]] = defaultdict(list)
    for each in looks:
        minutes[int(each.at_s // 60)].append(each.own_mb)
    return tuple(round(median(minutes[minute]), 2) for minute in sorted(minutes))


def middle(looks: list[Look]) -> Look:
    """A window: the medians, and the least of descriptors and threads, which come and go with the runs of a moment."""
    return Look(
        median(each.at_s for each in looks),
        median(each.pss_mb for each in looks),
        median(each.own_mb for each in looks),
        min(each.descriptors for each in looks),
        min(each.threads for each in looks),
    )
