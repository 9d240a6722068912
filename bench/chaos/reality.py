"""What is so on the machine, by the folders of attempts, and how soon the server knows it after a blow."""

from __future__ import annotations

import contextlib
import json
import os
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench.chaos.place import Installed, Place
from bench.machine import TICKS
from runyard.client.errors import ClientError

PATIENCE_S = 90.0


@dataclass(frozen=True, slots=True)
class Alive:
    """An attempt whose program runs. ``program``: its own process, or the init above it where it has none yet."""

    run: str
    attempt: int
    shim: int
    init: int
    program: int
    warm: bool


def attempts(place: Place) -> list[tuple[str, int, Path]]:
    """Every attempt that has a folder on the node."""
    found: list[tuple[str, int, Path]] = []
    for node in place.nodes:
        for run in os.listdir(node / "runs"):
            folder = node / "runs" / run / "attempts"
            with contextlib.suppress(OSError):  # it may go while we look
                found += [(run, int(name), folder / name) for name in os.listdir(folder) if name.isdigit()]
    return found


def read(path: Path) -> dict[str, object] | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return json.loads(path.read_text(encoding="utf-8"))
    return None


def living(pid: object, ticks: object) -> bool:
    """Whether a process of this number and start time lives. (To try its lock would hold the lock for a moment.)"""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return words[0] not in "ZX" and words[19] == str(ticks)
    return False


def alive(place: Place) -> list[Alive]:
    """The attempts whose programs run now."""
    found: list[Alive] = []
    for run, number, folder in attempts(place):
        started = read(folder / "started.json")
        if started is None or (folder / "exit.json").exists():
            continue
        init = int(str(started.get("pid") or 0))
        if init > 1 and Path(f"/proc/{init}").exists():
            warm = started.get("way") == "warm"
            found.append(Alive(run, number, int(str(started["shim_pid"])), init, _program(init, started), warm))
    return found


def _program(init: int, started: dict[str, object]) -> int:
    if "pid" not in str(started.get("namespaces")):
        return init
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{init}/task/{init}/children").read_text().split()[0])
    return init


@dataclass(frozen=True, slots=True)
class Facts:
    """What had happened at a moment: the server is right about it as soon as it knows all of this."""

    ended: frozenset[tuple[str, int]]
    begun: frozenset[tuple[str, int]]

    @staticmethod
    def now(place: Place) -> Facts:
        ended, begun = set[tuple[str, int]](), set[tuple[str, int]]()
        for run, number, folder in attempts(place):
            if (folder / "exit.json").exists():
                ended.add((run, number))
            elif (started := read(folder / "started.json")) is not None:
                begun.add((run, number))
                if not living(started.get("shim_pid"), started.get("shim_start_ticks")):
                    ended.add((run, number))  # its shim is dead: lost, and to be found so
        return Facts(frozenset(ended), frozenset(begun - ended))

    def known(self, place: Place) -> bool:
        """Whether the server's record says so."""
        try:
            with contextlib.closing(place.database()) as database:
                rows = database.execute("SELECT run_id, number, started_ms, released_ms FROM attempts").fetchall()
        except psycopg.Error:
            return False  # the database is just coming back
        told = {(run, number): (started, released) for run, number, started, released in rows}
        nothing = (1, 1)  # an attempt of a grant that was declined, or of a run that is gone: nobody waits for it
        if any(told.get(each, nothing)[1] is None for each in self.ended):
            return False
        return not any(told.get(each, nothing) == (None, None) for each in self.begun)


def healthy(place: Place) -> bool:
    """Whether every address answers."""
    with contextlib.suppress(OSError):
        for each in place.installed:
            with urllib.request.urlopen(f"{each.url}/healthz", timeout=2) as answer:
                if answer.status != 200:
                    return False
        return True
    return False


def connected(place: Place) -> bool:
    with contextlib.suppress(ClientError):
        return sum(bool(node["connected"]) for node in place.yard.client.status().nodes) == len(place.nodes)
    return False


def began_at(pid: int) -> float | None:
    """When a process was started, in seconds of the clock that runs on during sleep (``proc(5)``: field 22)."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]) / TICKS
    return None


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def right_again(place: Place, facts: Facts, since: float) -> float | None:
    """Seconds from ``since`` until the server answers, its node is there, and it knows all these facts; None: never."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if healthy(place) and connected(place) and facts.known(place):
            return boottime() - since
        time.sleep(0.01)
    return None


def replaced(where: Installed, role: str, old: int) -> int | None:
    """The pid of the process that the supervisor has started in its place."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        new = where.child(role)
        if new is not None and new != old and os.path.exists(f"/proc/{new}"):
            return new
        time.sleep(0.01)
    return None
