"""Reservations: who lacks room is promised a time at which it starts at the latest, and others may use the gaps.

EASY backfill (D. Lifka, "The ANL/IBM SP Scheduling System", 1995): the first run that lacks room gets a reservation for
the earliest time at which enough ends; one behind it may start before it if it is over by then, or takes what the run
leaves. Here each account's first run has one, on a machine of its own, so that a large run of one account does not wait
for those of the others in a row; without fair shares there is one for all, and one for each machine that runs are bound
to.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from runyard.core.resources import Resources
from runyard.core.scheduling.decisions import Reservation
from runyard.core.scheduling.fit import Yard
from runyard.core.scheduling.room import NEVER, Room
from runyard.core.scheduling.share import Account
from runyard.core.scheduling.snapshot import Head, QueueClass

Spot = tuple[int, int, int, int]
"""When, how many GPUs are lacking now, how many are left over, and which machine by its place."""


class Reservations:
    """What is kept, by run id."""

    def __init__(self, yard: Yard, *, for_each_account: bool) -> None:
        self.made: dict[str, Reservation] = {}
        self._yard = yard
        self._each = for_each_account
        self._any = False
        self._spots: dict[Resources, list[Spot]] = {}
        self._firsts: list[Spot] = []

    def keep(self, queue_class: QueueClass, head: Head, account: Account) -> None:
        """Keep room for a head, unless what it could have is kept already."""
        if head.node_id:
            room = self._yard.by_id[head.node_id]
            if room.kept is None:
                self._keep_at(room, room.free_for(queue_class.shape), queue_class, head)
        elif not (account.reserved if self._each else self._any):
            account.reserved = self._any = True
            spot = self._soonest(queue_class.shape)
            if spot is not None:
                room, at = spot
                self._keep_at(room, at, queue_class, head)

    def _keep_at(self, room: Room, at: int | None, queue_class: QueueClass, head: Head) -> None:
        room.keep(queue_class.shape, at, queue_class.account_id, queue_class.priority)
        self.made[head.run_id] = Reservation(room.id, at)

    def _soonest(self, shape: Resources) -> tuple[Room, int | None] | None:
        """The machine that has room for it first; where nobody can tell, the one that lacks least.

        The heap has bounds: a machine has room no sooner than that, and a start can only make it later.
        """
        heap = self._spots.get(shape)
        if heap is None:
            if not self._firsts:
                self._firsts = [(room.first_end, 0, 0, room.index) for room in self._yard.open]
                heapify(self._firsts)
            heap = self._spots[shape] = list(self._firsts)
        while heap:
            room = self._yard.rooms[heappop(heap)[-1]]
            spot = _spot(room, shape)
            if spot is not None:
                heappush(heap, spot)
                if heap[0] == spot:
                    return room, None if spot[0] == NEVER else spot[0]
        return None


def _spot(room: Room, shape: Resources) -> Spot | None:
    if room.kept is not None or not room.could_hold(shape):
        return None
    at = room.free_for(shape)
    lacking = shape.gpus - room.gpus
    return (NEVER if at is None else at, max(0, lacking), max(0, -lacking), room.index)
