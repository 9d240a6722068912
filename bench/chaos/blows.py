"""The blows. Each finds a victim, strikes it, and measures how long the state was wrong where something restarted."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.chaos import reality
from bench.chaos.place import Place
from bench.chaos.reality import Alive, Facts, boottime


@dataclass(slots=True)
class Struck:
    """What was done. ``programs``: attempts of which a process of the user's was killed: their own fault, as far as
    the service can know. ``took``: seconds from a restart to the right state; ``told``: from a blow to its being known
    where nothing restarts."""

    counts: dict[str, int] = field(default_factory=dict[str, int])
    took: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    never: list[str] = field(default_factory=list[str])
    programs: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])


Blow = Callable[["Striker"], bool]


class Striker:
    """Strikes, one blow at a time, by a seed."""

    def __init__(self, place: Place, seed: int, pause: float, blows: Mapping[str, Kept]) -> None:
        self.place, self.struck, self._pause, self._blows = place, Struck(), pause, blows
        self.chance = random.Random(f"blows {seed}")

    def strike(self, name: str) -> bool:
        """One blow of this kind; False when there was no victim, and nothing happened."""
        if not self._blows[name].blow(self):
            return False
        self.struck.counts[name] = self.struck.counts.get(name, 0) + 1
        time.sleep(self.chance.uniform(0, self._pause))
        return True

    def timed(self, name: str, since: float | None) -> None:
        """Wait until all is right again, and note how long that took."""
        took = None if since is None else reality.right_again(self.place, Facts.now(self.place), since)
        if took is None:
            self.struck.never.append(name)
        else:
            self.struck.took.setdefault(name, []).append(took)

    def victim(self, wanted: Callable[[Alive], bool] = lambda _: True) -> Alive | None:
        found = [each for each in reality.alive(self.place) if wanted(each)]
        return self.chance.choice(sorted(found, key=lambda each: each.run)) if found else None


def hit(pid: int, number: int) -> bool:
    """A signal to a process that is there; False when it was gone before."""
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return False
            signal.pidfd_send_signal(handle, number)
            return True
        finally:
            os.close(handle)
    return False


def kill_child(*roles: str) -> Blow:
    """SIGKILL to children of the supervisor; it starts them again."""
    name = "SIGKILL " + " and ".join(roles)

    def blow(striker: Striker) -> bool:
        where = striker.chance.choice(striker.place.installed)
        old = {role: pid for role in roles if (pid := where.child(role)) is not None}
        if len(old) < len(roles) or not all(hit(pid, signal.SIGKILL) for pid in old.values()):
            return False
        new = [reality.replaced(where, role, pid) for role, pid in old.items()]
        began = [None if pid is None else reality.began_at(pid) for pid in new]
        striker.timed(name, None if None in began else max(each for each in began if each is not None))
        return True

    return blow


def stop_child(role: str) -> Blow:
    """SIGSTOP for a while, then SIGCONT; the state is to be right again soon after that."""

    def blow(striker: Striker) -> bool:
        pid = striker.chance.choice(striker.place.installed).child(role)
        if pid is None or not hit(pid, signal.SIGSTOP):
            return False
        time.sleep(striker.chance.uniform(0.2, 2.0))
        hit(pid, signal.SIGCONT)
        striker.timed(f"SIGSTOP {role}", boottime())
        return True

    return blow


def signal_role(role: str, number: int) -> Blow:
    """A signal to one of the node's own processes."""

    def blow(striker: Striker) -> bool:
        found = striker.place.helpers(role)
        if not found:
            return False
        pid = striker.chance.choice(found)
        return paused(striker, pid) if number == signal.SIGSTOP else hit(pid, number)

    return blow


def paused(striker: Striker, pid: int) -> bool:
    if not hit(pid, signal.SIGSTOP):
        return False
    time.sleep(striker.chance.uniform(0.05, 0.6))
    return hit(pid, signal.SIGCONT)


def kill_shim(striker: Striker) -> bool:
    """The shim of one run that has a shim of its own."""
    victim = striker.victim(lambda each: not each.warm)
    return victim is not None and hit(victim.shim, signal.SIGKILL)


def stop_shim(striker: Striker) -> bool:
    victim = striker.victim()
    return victim is not None and paused(striker, victim.shim)


def kill_program(striker: Striker) -> bool:
    victim = striker.victim(lambda each: each.program != each.init)
    if victim is None:
        return False
    striker.struck.programs.add((victim.run, victim.attempt))
    return hit(victim.program, signal.SIGKILL)


def kill_init(striker: Striker) -> bool:
    victim = striker.victim()
    if victim is None:
        return False
    striker.struck.programs.add((victim.run, victim.attempt))
    return hit(victim.init, signal.SIGKILL)


def stop_program(striker: Striker) -> bool:
    victim = striker.victim()
    return victim is not None and paused(striker, victim.program)


def fill(half: int, name: str) -> Blow:
    """The disk of the server or of the node is full for a while."""

    def blow(striker: Striker) -> bool:
        if not striker.place.disks:
            return False
        ballast = striker.place.disks[half] / "ballast"
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                with contextlib.suppress(OSError):
                    while file.write(b"\0" * size) == size:
                        pass
        time.sleep(striker.chance.uniform(0.2, 1.0))
        ballast.unlink()
        striker.timed(name, boottime())
        return True

    return blow


def shut_store(striker: Striker) -> bool:
    """The object store answers nobody for a while."""
    if striker.place.store is None:
        return False
    door = striker.place.store[1]
    door.shut()
    time.sleep(striker.chance.uniform(0.3, 2.0))
    door.unlock()
    return True


def jump_clock(striker: Striker) -> bool:
    """The server's wall clock jumps, up to two hours either way."""
    if striker.place.clock is None:
        return False
    striker.place.clock.jump(striker.chance.randint(-7200, 7200))
    return True


@dataclass(frozen=True, slots=True)
class Kept:
    """A blow with its weight in the schedule."""

    blow: Blow
    weight: int


BLOWS: Mapping[str, Kept] = {
    "SIGKILL server": Kept(kill_child("server"), 30),
    "SIGKILL node": Kept(kill_child("node"), 30),
    "SIGKILL server and node": Kept(kill_child("server", "node"), 10),
    "SIGKILL launcher": Kept(signal_role("launcher", signal.SIGKILL), 100),
    "SIGKILL warm shim": Kept(signal_role("warm shim", signal.SIGKILL), 60),
    "SIGKILL warm parent": Kept(signal_role("warm parent", signal.SIGKILL), 120),
    "SIGKILL shim": Kept(kill_shim, 190),
    "SIGKILL program": Kept(kill_program, 200),
    "SIGKILL a program's init": Kept(kill_init, 60),
    "SIGSTOP server": Kept(stop_child("server"), 12),
    "SIGSTOP node": Kept(stop_child("node"), 12),
    "SIGSTOP launcher": Kept(signal_role("launcher", signal.SIGSTOP), 25),
    "SIGSTOP warm parent": Kept(signal_role("warm parent", signal.SIGSTOP), 25),
    "SIGSTOP shim": Kept(stop_shim, 40),
    "SIGSTOP program": Kept(stop_program, 30),
    "disk of the server full": Kept(fill(0, "disk of the server full"), 10),
    "disk of the node full": Kept(fill(1, "disk of the node full"), 10),
    "object store down": Kept(shut_store, 16),
    "clock of the server jumps": Kept(jump_clock, 40),
}
"""Every kind, with how often in a thousand or so."""


def schedule(seed: int, count: int, blows: Mapping[str, Kept] = BLOWS) -> list[str]:
    """The kinds in their order: each in its share, at least once where there is room, shuffled by the seed."""
    total = sum(each.weight for each in blows.values())
    shares = {name: max(1, round(count * each.weight / total)) for name, each in blows.items()}
    order = [name for name, share in shares.items() for _ in range(share)]
    random.Random(f"schedule {seed}").shuffle(order)
    return order


def possible(name: str, place: Place) -> bool:
    """Whether this place has what the blow strikes."""
    lacking = {
        "disk of the server full": not place.disks,
        "disk of the node full": not place.disks,
        "object store down": place.store is None,
        "clock of the server jumps": place.clock is None,
    }
    return not lacking.get(name, False)
