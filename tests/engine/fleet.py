"""Models of machines: they hear orders in their order, lose their streams, die and come back, and tell their facts
late, several times and in batches. What programs really did is kept beside what the server knows of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from runyard.core.lifecycle import Exit
from runyard.core.reasons import Reason
from runyard.core.resources import Resources
from runyard.core.run import StopCause
from runyard.engine.told import Began, Declined, Exited, Lost, Stored, Then, Told
from runyard.ports.executor import LaunchRequest, StageRequest, StoreRequest
from runyard.testing.fakes import Given, Release, Stop, Synced, Withdraw

SEAT_MS = 10_000
LEAVES_ROOM = {None, StopCause.cancel, StopCause.time_limit, StopCause.disk_limit, StopCause.prune, StopCause.idle}
Key: TypeAlias = tuple[str, int]
"""A run and the number of an attempt."""


@dataclass(frozen=True, slots=True)
class Program:
    """What runs: since when, in which slots, of which queue class."""

    slots: tuple[int, ...]
    queue_class: int
    since_ms: int


@dataclass(frozen=True, slots=True)
class Granted:
    """What the machine may begin by itself until a moment; given at ``at_ms``."""

    queue_class: int
    at_ms: int
    until_ms: int


@dataclass
class Machine:
    """One machine. ``inbox``: orders on their way with the time when they were given. ``told``: facts that were not
    answered. ``begins``: called with the machine, each attempt that it begins by itself, and the moment of its grant.
    ``planned``: a plan was made since it connected and since what holds accounts back was last changed. ``dying``: the
    programs that are being killed, and why; None: their run is to be forgotten. ``seats``: launches that wait for their
    slots, and for how long at most."""

    id: str
    total: Resources
    begins: Callable[[Machine, Key, int], None]
    connected: bool = False
    planned: bool = False
    inbox: list[tuple[int, Given]] = field(default_factory=list)
    ready: set[int] = field(default_factory=set)
    running: dict[Key, Program] = field(default_factory=dict)
    grants: dict[Key, Granted] = field(default_factory=dict)
    ended: dict[Key, int] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)
    begun: set[Key] = field(default_factory=set)
    dying: dict[Key, StopCause | None] = field(default_factory=dict)
    seats: dict[Key, tuple[LaunchRequest, int]] = field(default_factory=dict)

    def held(self) -> tuple[Key, ...]:
        """What it says hello with."""
        return (*self.running, *self.grants, *self.seats, *self.ended)

    def slots(self) -> dict[Key, tuple[int, ...]]:
        """What has begun there, with its slots."""
        return {key: each.slots for key, each in self.running.items()} | dict.fromkeys(self.ended, ())

    def hear(self, now: int, staged: Callable[[int], None]) -> None:
        """Hear the next order."""
        at_ms, order = self.inbox.pop(0)
        match order:
            case StageRequest():
                self.ready.add(order.spec_id)
                staged(order.spec_id)
            case LaunchRequest():
                self._launch(order, at_ms, now)
            case Stop():
                self._stop((order.run_id, order.attempt), order.cause, now)
            case Withdraw():
                self._withdraw((order.run_id, order.attempt))
            case StoreRequest():
                self.told.append(Stored(order.run_id, 1, 1))
            case Release():
                self._forget(lambda key: key[0] == order.run_id)
            case Synced():
                self._forget(lambda key: key[0] not in order.run_ids)
            case _:
                pass

    def _forget(self, is_gone: Callable[[Key], bool]) -> None:
        for key in [key for key in self.held() if is_gone(key)]:
            for each in (self.grants, self.seats, self.ended):
                each.pop(key, None)
            if key in self.running:
                self.dying[key] = None

    def killed_die(self, now: int) -> None:
        """What is being killed is gone."""
        dying, self.dying = self.dying, {}
        for key, cause in dying.items():
            if key in self.running:
                self.end(key, Exit(now, None, 9, cause or StopCause.fenced), now)
            if cause is None:
                self.ended.pop(key, None)

    def _launch(self, order: LaunchRequest, at_ms: int, now: int) -> None:
        key = (order.run_id, order.attempt)
        if key in self.running or key in self.ended:
            return
        for older in [each for each in self.running if each[0] == key[0] and each[1] < key[1]]:
            self.dying.setdefault(older, StopCause.fenced)
        if order.hold_ms:
            self.grants[key] = Granted(order.queue_class, at_ms, min(order.until_ms, now + order.hold_ms))
            self.run_out(now)
            return
        self.grants.pop(key, None)
        self.seats[key] = order, now + SEAT_MS
        self._seat(now)

    def _seat(self, now: int) -> None:
        """Begin what waits for its slots, where they are free, and an earlier attempt of its run is gone."""
        for key, (order, _) in list(self.seats.items()):
            taken = {slot for each in self.running.values() for slot in each.slots}
            if taken.isdisjoint(order.slots) and all(run != key[0] for run, _ in self.running):
                del self.seats[key]
                self._begin(key, Program(order.slots, order.queue_class, now))

    def _begin(self, key: Key, program: Program) -> None:
        assert key not in self.begun, f"{key} begun twice"
        self.begun.add(key)
        self.running[key] = program
        self.told.append(Began(*key, program.since_ms))

    def _withdraw(self, key: Key) -> None:
        if self.grants.pop(key, None) is not None:
            self.told.append(Declined(*key))

    def _stop(self, key: Key, cause: StopCause, now: int) -> None:
        if key in self.running:
            if cause is StopCause.fenced:
                self.dying.setdefault(key, cause)
            else:
                self.end(key, Exit(now, None, 15, cause), now)
        elif self.grants.pop(key, None) is not None or self.seats.pop(key, None) is not None:
            self.ended[key] = now
            self.told.append(Exited(*key, Exit(now, None, None, cause)))

    def end(self, key: Key, record: Exit | Reason, now: int) -> None:
        """A program ends, or is lost; the next grant of its class takes its room at once."""
        program = self.running.pop(key)
        self.ended[key] = now
        follows = self._next(program, record.cause if isinstance(record, Exit) else None)
        then = None if follows is None else Then(*follows)
        if isinstance(record, Exit):
            self.told.append(Exited(*key, record, then))
        else:
            self.told.append(Lost(*key, record, "It is gone.", then))
        if follows is not None:
            self.begins(self, follows, self.grants.pop(follows).at_ms)
            self._begin(follows, Program(program.slots, program.queue_class, now))
        self._seat(now)

    def _next(self, program: Program, cause: StopCause | None) -> Key | None:
        """The grant that takes the room of a program that ended."""
        if cause not in LEAVES_ROOM:
            return None
        return next((key for key, grant in self.grants.items() if grant.queue_class == program.queue_class), None)

    def run_out(self, now: int) -> None:
        """Decline what could not be begun in time."""
        for key in [key for key, grant in self.grants.items() if grant.until_ms <= now]:
            del self.grants[key]
            self.told.append(Declined(*key))
        for key in [key for key, (_, until_ms) in self.seats.items() if until_ms <= now]:
            del self.seats[key]
            self.ended[key] = now
            no = Exit(now, None, None, launch_error="The slot is not free.", launch_reason=Reason.gpu_taken)
            self.told.append(Exited(*key, no))

    def cut_off(self) -> None:
        """The stream is gone, and what was on its way with it."""
        self.connected = self.planned = False
        self.inbox.clear()

    def wipe(self) -> None:
        """It died, and comes back as if it were new."""
        self.cut_off()
        for each in (self.ready, self.running, self.grants, self.ended, self.told, self.begun,
                     self.dying, self.seats):  # fmt: skip
            each.clear()
