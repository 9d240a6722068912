"""CPU time and memory of processes, from ``/proc``."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.machine import TICKS

ROLES = (
    ("server", "runyard.server"),
    ("node", "runyard.node"),
    ("launcher", "--launcher"),
    ("warm shim", "--warm"),
    ("warm parent", "warm/parent.py"),
    ("shim", "shim.py"),
    ("supervisor", "runyard.up"),
)
"""What a process of ours is, by a word of its command line."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process: ``cpu_s`` its own time, ``reaped_s`` that of its children which it has waited for."""

    pid: int
    parent: int
    cpu_s: float
    reaped_s: float
    command: str

    @property
    def role(self) -> str:
        return next((role for role, word in ROLES if word in self.command), "program")


def look(pid: int) -> Process | None:
    """None when there is no such process."""
    with suppress(OSError, ValueError):
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        times = [int(each) / TICKS for each in stat[11:15]]
        return Process(pid, int(stat[1]), times[0] + times[1], times[2] + times[3], command)
    return None


def everything() -> Iterator[Process]:
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (found := look(int(entry))) is not None:
            yield found


def tree(root: int) -> dict[int, Process]:
    """A process and all that descend from it."""
    children: defaultdict[int, list[Process]] = defaultdict(list)
    every = {process.pid: process for process in everything()}
    for process in every.values():
        children[process.parent].append(process)
    found: dict[int, Process] = {}
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        if pid in every and pid not in found:
            found[pid] = every[pid]
            waiting += [child.pid for child in children[pid]]
    return found


def spent(before: Mapping[int, Process], after: Mapping[int, Process]) -> dict[str, float]:
    """CPU seconds by role between two looks at a tree. What a process has reaped meanwhile and was in neither look
    counts as ``ended children of`` it: programs, and shims that came and went."""
    found: defaultdict[str, float] = defaultdict(float)
    gone: defaultdict[int, float] = defaultdict(float)
    for pid, process in before.items():
        if pid not in after:
            gone[process.parent] += process.cpu_s + process.reaped_s
    for pid, process in after.items():
        earlier = before.get(pid)
        found[process.role] += process.cpu_s - (earlier.cpu_s if earlier else 0.0)
        reaped = process.reaped_s - (earlier.reaped_s if earlier else 0.0) - gone[pid]
        found[f"ended children of {process.role}"] += max(0.0, reaped)
    return {role: seconds for role, seconds in found.items() if seconds > 0}


def memory(pid: int) -> dict[str, int]:
    """Bytes of a process by kind (``smaps_rollup`` of ``proc(5)``): ``Pss``, ``Private_Clean``, ``Private_Dirty``, ...
    Empty when it is gone."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        return {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return {}


def private(pids: Iterable[int]) -> int:
    """Bytes that would be free again if these processes were gone."""
    found = [memory(pid) for pid in pids]
    return sum(each.get("Private_Clean", 0) + each.get("Private_Dirty", 0) for each in found)


def pss(pids: Iterable[int]) -> int:
    """Bytes of these processes, what is shared counted in shares."""
    return sum(memory(pid).get("Pss", 0) for pid in pids)
