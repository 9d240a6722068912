"""Grants ahead: runs that wait here for an attempt of their class to end, and who took over whose slots.

What is decided at the end of an attempt is decided once: no grant, or one, which is written into the folder of the run
that takes over (a link ``after`` that leads nowhere: ``RUN/ATTEMPT SLOT,SLOT``) before it is started. Grants that are
merely held are in memory alone: a node that starts again has none until the server sends them again.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from runyard.core.run import StopCause
from runyard.node.became import clock_ms
from runyard.node.home import PASSABLE, AttemptFolder, Home, make_folder, say
from runyard.node.prepare import read_order
from runyard.wire.facts import Then
from runyard.wire.orders import Launch

Attempt = tuple[str, int]
"""A run and the number of its attempt."""

LEAVES_ROOM = frozenset(
    {None, StopCause.cancel, StopCause.time_limit, StopCause.disk_limit, StopCause.prune, StopCause.idle}
)
"""What an attempt may have been stopped for (None: it ended by itself) whose slots a grant takes over. One that was
stopped to make room for another run, or that the server has given up, leaves its slots to the server."""


@dataclass(frozen=True, slots=True)
class After:
    """Whose slots an attempt took over, and which."""

    run: str
    attempt: int
    slots: tuple[int, ...]


def read_after(folder: AttemptFolder) -> After | None:
    """Whom an attempt followed; None where it was started by an order of its own."""
    try:
        text = os.readlink(folder.after)
    except OSError:
        return None
    name, _, slots = text.partition(" ")
    run, _, number = name.partition("/")
    return After(run, int(number), tuple(int(slot) for slot in slots.split(",") if slot))


def write_after(folder: AttemptFolder, after: After) -> None:
    """Put down whom an attempt follows, in place of what an earlier try has left. Raises ``OSError``."""
    text = f"{after.run}/{after.attempt} {','.join(map(str, after.slots))}"
    try:
        os.symlink(text, folder.after)
    except FileNotFoundError:
        make_folder(folder.path, PASSABLE)  # it is still being prepared
        os.symlink(text, folder.after)
    except FileExistsError:
        os.unlink(folder.after)
        os.symlink(text, folder.after)


class Grants:
    """The queues of grants, one for each class, and what was decided at the ends of attempts.

    ``take_over`` is told, from the thread that decides, of the launch order (with its slots) that is to be carried out.
    """

    def __init__(self, home: Home, follow: Callable[[Attempt, Attempt], None]) -> None:
        """``follow`` is told first of an attempt and of the one before whose end nothing may be said of it."""
        self._home = home
        self._follow = follow
        self._lock = threading.Lock()
        self._held: dict[int, OrderedDict[Attempt, Launch]] = {}
        self._decided: dict[Attempt, Then | None] = {}
        self._taken: set[Attempt] = set()
        self.take_over: Callable[[Launch], None] = _nobody

    def recover(self, ended: Iterable[AttemptFolder], begun: Iterable[AttemptFolder]) -> None:
        """What the folders tell after a restart. ``ended``: attempts that are over, which leave nothing to a grant any
        more; ``begun``: those with a program that has begun, ended ones too."""
        with self._lock:
            for folder in ended:
                self._decided.setdefault((folder.run, folder.number), None)
            for folder in begun:
                after = read_after(folder)
                if after is not None:
                    self._note((folder.run, folder.number), after)

    def _note(self, successor: Attempt, after: After) -> None:
        self._taken.add(successor)
        self._decided[after.run, after.attempt] = Then(*successor)
        if os.path.isdir(self._home.attempt(after.run, after.attempt).path):
            self._follow(successor, (after.run, after.attempt))

    # ------------------------------------------------------------------------------------------------------- holding

    def hold(self, order: Launch) -> bool:
        """Put a grant at the end of its queue, or a newer order in its place there. False: it has taken over by now."""
        key = (order.run, order.attempt)
        with self._lock:
            if key in self._taken:
                return False
            queue = self._held.setdefault(order.queue_class, OrderedDict())
            queue[key] = order
            self._decided.pop(key, None)
            return True

    def named(self) -> set[Attempt]:
        """The grants that are held, and the attempts that have taken over, with a folder or not yet."""
        with self._lock:
            return {*(key for queue in self._held.values() for key in queue), *self._taken}

    def withdraw(self, run: str, attempt: int, only: Launch | None = None, *, for_good: bool = False) -> Launch | None:
        """Hold a grant no longer; returns it, None where it was not held. ``only``: nothing but this very order;
        ``for_good``: it never begins, so that its end leaves no slots to anybody."""
        with self._lock:
            for number, queue in self._held.items():
                order = queue.get((run, attempt))
                if order is not None and (only is None or order is only):
                    del queue[run, attempt]
                    if not queue:
                        del self._held[number]
                    if for_good:
                        self._decided[run, attempt] = None
                    return order
        return None

    def withdraw_all(self, run: str) -> list[Launch]:
        """Hold no grant of a run any longer; returns those that were."""
        with self._lock:
            attempts = [key[1] for queue in self._held.values() for key in queue if key[0] == run]
        return [order for number in attempts if (order := self.withdraw(run, number)) is not None]

    # ------------------------------------------------------------------------------------------------------ deciding

    def decide(self, folder: AttemptFolder, cause: str | None) -> Then | None:
        """Who takes over from an attempt whose program is gone: the same answer however often it is asked. The first
        time, the one that does is put down and told to ``take_over``. ``cause``: of the stop, None for none."""
        key = (folder.run, folder.number)
        with self._lock:
            if key in self._decided:
                return self._decided[key]
            order = self._next(folder) if self._held and cause in LEAVES_ROOM else None
            then = self._decided[key] = None if order is None else Then(order.run, order.attempt)
            if order is not None:
                self._taken.add((order.run, order.attempt))
                self._follow((order.run, order.attempt), key)
        if order is not None:
            self.take_over(order)
        return then

    def _next(self, folder: AttemptFolder) -> Launch | None:
        """The first grant of the attempt's class, with the attempt's slots."""
        kept = read_order(folder)
        queue = self._held.get(kept.queue_class) if kept is not None and kept.learners == 1 else None
        now = clock_ms()
        first = None if not queue else next((item for item in queue.items() if not _is_over(item[1], now)), None)
        if kept is None or queue is None or first is None:
            return None
        key, order = first
        before = read_after(folder)
        slots = kept.slots if before is None else before.slots
        try:
            write_after(self._home.attempt(*key), After(folder.run, folder.number, slots))
        except OSError as error:
            say(f"{order.run} could not take over from {folder.name}: {error}")
            return None
        del queue[key]
        if not queue:
            del self._held[kept.queue_class]
        return msgspec.structs.replace(order, slots=slots, hold_ms=0)

    @staticmethod
    def slots_of(folder: AttemptFolder) -> tuple[int, ...]:
        """The slots that an attempt has: its order's, or those that it took over."""
        before, kept = read_after(folder), read_order(folder)
        return before.slots if before is not None else kept.slots if kept is not None else ()

    def has_taken_over(self, run: str, attempt: int) -> bool:
        """Whether an attempt has the slots of one that ended here, by a grant ahead."""
        with self._lock:
            return (run, attempt) in self._taken

    def forget(self, run: str) -> None:
        """A run's folders are gone."""
        with self._lock:
            self._decided = {key: then for key, then in self._decided.items() if key[0] != run}
            self._taken = {key for key in self._taken if key[0] != run}


def _is_over(order: Launch, now: int) -> bool:
    """Whether a grant has run out: it is about to be declined."""
    return 0 < order.until_ms <= now


def _nobody(order: Launch) -> None:
    raise AssertionError(f"nobody carries out {order}")
