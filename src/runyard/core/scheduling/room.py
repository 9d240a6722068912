"""One machine while a plan is made: what is free, what comes free when, and what is kept for whom."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from operator import itemgetter

from runyard.core.resources import Resources
from runyard.core.scheduling.snapshot import Busy, NodeRoom

Amount = tuple[int, int, int]
"""GPUs, milli-CPUs, MiB."""

NEVER = 1 << 62
"""A time that nobody can tell."""
STOPPING_MS = 60_000
"""An attempt that is being stopped is over by then, about: its grace is short."""


class Kept:
    """Room that is kept for a run: nothing may take it that is not over by ``at`` (None: nobody knows when that is),
    but ``spare`` is what the run leaves. ``claimed``: the run waits for attempts that are being stopped for it."""

    __slots__ = ("account_id", "at", "claimed", "priority", "spare")

    def __init__(self, account_id: str, priority: int, at: int | None, spare: Amount, *, claimed: bool = False) -> None:
        self.account_id = account_id
        self.priority = priority
        self.at = at
        self.spare = spare
        self.claimed = claimed


class Room:
    """A machine. ``gpus``, ``cpus``, ``memory``: what is free (below zero where too much was given once); ``index``:
    its place among all, by id; ``size``: GPUs that are free or held; ``busy``: what runs there, ``stopping``: whether
    some of it is being stopped; ``kept``: what is kept for one that waits."""

    __slots__ = (
        "_ending",
        "_ends",
        "_given",
        "_now",
        "_total",
        "at_slot",
        "busy",
        "cpus",
        "gpus",
        "id",
        "index",
        "kept",
        "memory",
        "node",
        "size",
        "stopping",
    )

    def __init__(self, node: NodeRoom, index: int, busy: list[Busy], now: int) -> None:
        self.node = node
        self.id = node.id
        self.index = index
        self.busy = busy
        self.gpus = max(0, min(node.free.gpus, len(node.free_slots)))
        self.cpus = node.free.cpu_millis
        self.memory = node.free.memory_mib
        self.size = self.gpus
        self.stopping = False
        for each in busy:
            self.size += len(each.slots)
            self.stopping = self.stopping or each.stopping
        self.at_slot = 0
        self.kept: Kept | None = None
        self._now = now
        self._given: list[tuple[int, Resources]] = []
        self._ends: list[tuple[int, int, int, int]] | None = None
        self._ending: Amount | None = None
        self._total: Amount | None = None

    def holds(self, shape: Resources) -> bool:
        """Whether there is room, whoever it is kept for."""
        return (
            shape.gpus <= self.gpus
            and (shape.cpu_millis <= self.cpus or not shape.cpu_millis)
            and (shape.memory_mib <= self.memory or not shape.memory_mib)
        )

    def takes(self, shape: Resources, end: int | None) -> bool:
        """Whether a run of this shape, over by ``end`` (None: nobody knows), may start in what is not kept."""
        if not self.holds(shape):
            return False
        kept = self.kept
        return kept is None or _over(kept, end) or within(shape, kept.spare)

    def take(self, shape: Resources, end: int | None) -> tuple[int, ...]:
        """Give it room; the slots are the lowest that are free."""
        slots = self.node.free_slots[self.at_slot : self.at_slot + shape.gpus]
        self.at_slot += shape.gpus
        self.gpus -= shape.gpus
        self.cpus -= shape.cpu_millis
        self.memory -= shape.memory_mib
        kept = self.kept
        if kept is not None and not _over(kept, end):
            gpus, cpus, memory = kept.spare
            kept.spare = (gpus - shape.gpus, cpus - shape.cpu_millis, memory - shape.memory_mib)
        if end is not None:
            self._given.append((end, shape))
        self._ends = None
        return slots

    def free_for(self, shape: Resources) -> int | None:
        """When there is room for it at the latest, if nothing more is given; None where limits do not tell."""
        if self.holds(shape):
            return self._now
        ends = self._timeline()
        for end, gpus, cpus, memory in ends:
            if gpus >= shape.gpus and cpus >= shape.cpu_millis and memory >= shape.memory_mib:
                return end
        return None

    def keep(self, shape: Resources, at: int | None, account_id: str, priority: int) -> None:
        """Keep room for a run that starts at ``at``, and see what it leaves then to those that are not over."""
        gpus, cpus, memory = self.gpus, self.cpus, self.memory
        if at is not None:
            ends = self._timeline()
            place = bisect_right(ends, at, key=itemgetter(0)) - 1
            if place >= 0:
                _, gpus, cpus, memory = ends[place]
        spare = (gpus - shape.gpus, cpus - shape.cpu_millis, memory - shape.memory_mib)
        self.kept = Kept(account_id, priority, at, spare)

    def could_hold(self, shape: Resources) -> bool:
        """Whether it has room for it once all that runs there has ended."""
        if self._total is None:
            self._total = sum_of([self.node.free, *(each.resources for each in self.busy)])
        gpus, cpus, memory = self._total
        return shape.gpus <= gpus and shape.cpu_millis <= cpus and shape.memory_mib <= memory

    def soon(self) -> Amount | None:
        """What is free, or will be once those that are being stopped have ended, and is not promised; None where the
        machine's room is kept until limits run out."""
        if self.kept is not None:
            return self.kept.spare if self.kept.claimed else None
        if self._ending is None:
            self._ending = sum_of(each.resources for each in self.busy if each.stopping)
        gpus, cpus, memory = self._ending
        return self.gpus + gpus, self.cpus + cpus, self.memory + memory

    def claim(self, shape: Resources, soon: Amount, account_id: str, priority: int) -> None:
        """Promise a run what is there soon."""
        spare = (soon[0] - shape.gpus, soon[1] - shape.cpu_millis, soon[2] - shape.memory_mib)
        self.kept = Kept(account_id, priority, None, spare, claimed=True)

    @property
    def first_end(self) -> int:
        """When something ends there first."""
        first, now = NEVER, self._now
        for each in self.busy:
            end = end_of(each, now)
            if end is not None and end < first:
                first = end
        return first

    def _timeline(self) -> list[tuple[int, int, int, int]]:
        """What is free after each end that is known, ascending."""
        if self._ends is None:
            now = self._now
            ends = [(end, each.resources) for each in self.busy if (end := end_of(each, now)) is not None]
            ends += self._given
            ends.sort(key=itemgetter(0))
            gpus, cpus, memory = self.gpus, self.cpus, self.memory
            self._ends = []
            for end, each in ends:
                gpus, cpus, memory = gpus + each.gpus, cpus + each.cpu_millis, memory + each.memory_mib
                self._ends.append((end, gpus, cpus, memory))
        return self._ends


def sum_of(amounts: Iterable[Resources]) -> Amount:
    """All of them together."""
    gpus = cpus = memory = 0
    for each in amounts:
        gpus += each.gpus
        cpus += each.cpu_millis
        memory += each.memory_mib
    return gpus, cpus, memory


def within(shape: Resources, spare: Amount) -> bool:
    """Whether a shape fits in an amount; what it does not ask for may be lacking."""
    gpus, cpus, memory = spare
    return (
        (shape.gpus <= gpus or not shape.gpus)
        and (shape.cpu_millis <= cpus or not shape.cpu_millis)
        and (shape.memory_mib <= memory or not shape.memory_mib)
    )


def end_of(busy: Busy, now: int) -> int | None:
    """When an attempt is over at the latest, as far as anybody knows."""
    known = busy.ends_ms
    if known is None and busy.expected_ms is not None and busy.expected_ms > now:
        known = busy.expected_ms
    if busy.stopping:
        return now + STOPPING_MS if known is None else min(known, now + STOPPING_MS)
    return known


def _over(kept: Kept, end: int | None) -> bool:
    return kept.at is not None and end is not None and end <= kept.at
