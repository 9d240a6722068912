"""Reservations: who lacks room is promised a time at which it starts at the latest, and others may use the gaps.

EASY backfill (D. Lifka, "The ANL/IBM SP Scheduling System", 1995): the first run that lacks room gets a reservation for
the earliest time at which enough ends; one behind it may start before it if it is over by then, or takes what the run
leaves. Here each account's first run has one, on a machine of its own, so that a large run of one account does not wait
for those of the others in a row; without fair shares there is one for all, and one for each machine that runs are bound
to.
"""

from __future__ import annotations

from collections.abc import Container
from heapq import heapify, heappop, heappush

from runyard.core.resources import Resources
from runyard.core.scheduling.decisions import Reservation
from runyard.core.scheduling.fit import Yard
from runyard.core.scheduling.room import NEVER, Room
from runyard.core.scheduling.share import Account, Shares
from runyard.core.scheduling.snapshot import Head, Promise, QueueClass, Snapshot

MOST_NOTED = 8
"""Runs of a class that are promised room together."""

Spot = tuple[int, int, int, int]
"""When, how many GPUs are lacking now, how many are left over, and which machine by its place."""


class Reservations:
    """What is kept, by run id."""

    def __init__(self, yard: Yard, snapshot: Snapshot, shares: Shares) -> None:
        self.made: dict[str, Reservation] = {}
        self._yard = yard
        self._shares = shares
        self._now = snapshot.now_ms
        self._before = snapshot.promises
        self._patience = snapshot.policy.patience_ms
        self._each = snapshot.policy.fair_share
        self._any = False
        self._first = ""
        self._later: dict[str, int] = {}
        self._spots: dict[Resources, list[Spot]] = {}
        self._firsts: list[Spot] = []

    def keep(self, queue_class: QueueClass, head: Head, account: Account) -> None:
        """Keep room for a head, unless what it could have is kept already."""
        if head.node_id:
            room = self._yard.by_id[head.node_id]
            if room.kept is None:
                self._keep_at(room, room.free_for(queue_class.shape), queue_class, head, account)
        elif self._each and self.is_on_loan(queue_class, account) and account.ahead and not self.has_waited(head):
            self.note(queue_class)
        elif not (account.reserved if self._each else self._any):
            account.reserved = self._any = True
            spot = self._soonest(queue_class.shape)
            if spot is not None:
                room, at = spot
                self._keep_at(room, at, queue_class, head, account)

    def promises(self, waiting: Container[str]) -> dict[str, Promise]:
        """What the next plan is to know: since when each that waits was promised room, and who stays first.

        That is who had the first reservation: were it another run in each plan, whose account has had less by then,
        machines would be emptied for gangs that never come to start there.
        """
        since = {run_id: each.since_ms for run_id, each in self._before.items() if run_id in waiting}
        since |= {run_id: since.get(run_id, self._now) for run_id in (*self.made, *self._later)}
        return {run_id: Promise(at, first=run_id == self._first) for run_id, at in since.items()}

    def is_on_loan(self, queue_class: QueueClass, account: Account) -> bool:
        """Whether its runs are larger than what is due to its account: they are let in while that is on loan."""
        return self._shares.size(queue_class.shape) > account.due

    def has_waited(self, head: Head, *, times: int = 1) -> bool:
        """Whether it was promised room so long ago that it goes first, or several times as long ago."""
        before = self._before.get(head.run_id)
        return before is not None and before.since_ms <= self._now - times * self._patience

    def note(self, queue_class: QueueClass) -> None:
        """Promise the first runs of a class room once their account may have it: from now on they wait for it, all of
        them, else each would begin to when the one before it has started."""
        for head in queue_class.heads[:MOST_NOTED]:
            self._later[head.run_id] = self._now

    def _stays_first(self, queue_class: QueueClass, head: Head, account: Account) -> bool:
        """Whether it has the plan's first reservation, and keeps its place until it starts: once it has it, or where it
        is due to its account. A gang above that is not."""
        before = self._before.get(head.run_id)
        due = account.held < account.due and self._shares.size(queue_class.shape) <= account.due
        return not self.made and (due or (before is not None and before.first))

    def _keep_at(self, room: Room, at: int | None, queue_class: QueueClass, head: Head, account: Account) -> None:
        room.keep(queue_class.shape, at, queue_class.account_id, queue_class.priority)
        if self._stays_first(queue_class, head, account):
            self._first = head.run_id
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
