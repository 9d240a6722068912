"""Making room: which attempts are stopped, with their checkpoint, so that a run that waits can start.

An account below its due share takes back what others have borrowed: attempts of accounts that hold their due without
them. Where the operator says so, a run also takes the room of those of lower priority. The lowest priority goes first,
then the youngest; never one more than is needed, none where the run could not start then, none of higher priority than
the run, and none for a run that another one ahead of it would be given the room before.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

from runyard.core.resources import Resources
from runyard.core.scheduling.decisions import No, Preempt, Reservation, Wait
from runyard.core.scheduling.fit import Yard
from runyard.core.scheduling.room import STOPPING_MS, Amount, Room, within
from runyard.core.scheduling.share import Account, Shares
from runyard.core.scheduling.snapshot import Busy, Head, QueueClass, Snapshot

MOST: Final = 16
"""Runs that room is made for in one plan, at most: the next plan goes on."""
COMING: Final[No] = Wait.capacity, "Room is being made for it: it starts as soon as other runs have stopped."
BORROWED: Final = (
    "Stopped to give back borrowed room to an account that holds less than is due to it; "
    "it waits again with its checkpoint."
)
OUTRANKED: Final = "Stopped to make room for a run of higher priority; it waits again with its checkpoint."

Cost = tuple[int, int, int]
"""The highest priority among those to be stopped, what they have computed (millionths of a GPU, ms), the machine."""


class Reclaim:
    """Finds and notes whom to stop, and promises what comes free."""

    def __init__(self, snapshot: Snapshot, yard: Yard, shares: Shares) -> None:
        self.preempts: list[Preempt] = []
        self.reservations: dict[str, Reservation] = {}
        self.settles_at: int | None = None
        self._policy = snapshot.policy
        self._now = snapshot.now_ms
        self._yard = yard
        self._shares = shares
        self._stopped: set[tuple[str, int]] = set()
        self._passed: dict[str, set[Resources]] = {}
        self._costs: dict[tuple[Resources, int, bool], list[Cost]] = {}
        self._settled: dict[int, list[Busy]] | None = None
        self._least: list[Cost] = []
        self._coming = [room for room in yard.open if any(busy.stopping for busy in room.busy)]

    def helps(self, queue_class: QueueClass, head: Head, account: Account) -> bool:
        """Whether room is being made for a head that lacks it: it is then promised to it."""
        shape, size = queue_class.shape, self._shares.size(queue_class.shape)
        below = self._policy.preemption and self._policy.fair_share and account.held + size <= account.due
        found = None
        if (below or self._policy.by_priority) and len(self.reservations) < MOST:
            found = self._room_coming(shape, head) or self._stop_some(queue_class, head, below=below)
        if found is None:
            self._passed.setdefault(head.node_id, set()).add(shape)
            return False
        soon = found.soon()
        if soon is not None:
            found.claim(shape, soon, account.id, queue_class.priority)
        account.take(shape, size)
        self.reservations[head.run_id] = Reservation(found.id, self._now + STOPPING_MS)
        return True

    def _room_coming(self, shape: Resources, head: Head) -> Room | None:
        """A machine where enough attempts are being stopped already."""
        for room in self._coming:
            if head.node_id in ("", room.id) and (soon := room.soon()) is not None and within(shape, soon):
                return None if self._taken_before(room, soon) else room
        return None

    def _taken_before(self, room: Room, amount: Amount) -> bool:
        """Whether one ahead in the queue would start in that room."""
        ahead = self._passed.get("", set()) | self._passed.get(room.id, set())
        return any(within(shape, amount) for shape in ahead)

    def _stop_some(self, queue_class: QueueClass, head: Head, *, below: bool) -> Room | None:
        shape, priority = queue_class.shape, queue_class.priority
        if head.node_id:
            room = self._yard.by_id[head.node_id]
            victims = self._victims(room, shape, priority, below=below)
        else:
            room, victims = self._cheapest(shape, priority, below=below)
        if room is None or victims is None:
            return None
        for busy in victims:
            outranked = self._policy.by_priority and busy.priority < priority
            text = OUTRANKED if outranked else BORROWED
            self.preempts.append(Preempt(busy.run_id, busy.attempt, head.run_id, text))
            self._stopped.add((busy.run_id, busy.attempt))
            self._shares.accounts[busy.account_id].held -= self._shares.size(busy.resources)
        soon = _and(room.soon() or (0, 0, 0), victims)
        room.claim(Resources(), soon, queue_class.account_id, priority)
        return room

    def _cheapest(self, shape: Resources, priority: int, *, below: bool) -> tuple[Room | None, list[Busy] | None]:
        """The machine where least is lost. The heap has bounds: what a machine costs at least, and only grows."""
        key = (shape, priority, below)
        if key not in self._costs:
            self._by_room()
            self._costs[key] = list(self._least)
        heap = self._costs[key]
        while heap:
            room = self._yard.rooms[heappop(heap)[-1]]
            victims = self._victims(room, shape, priority, below=below)
            cost = self._cost(room, victims)
            if cost is not None:
                heappush(heap, cost)
                if heap[0] == cost:
                    return room, victims
        return None, None

    def _cost(self, room: Room, victims: list[Busy] | None) -> Cost | None:
        if not victims:
            return None
        return max(busy.priority for busy in victims), sum(map(self._loss, victims)), room.index

    def _victims(self, room: Room, shape: Resources, priority: int, *, below: bool) -> list[Busy] | None:
        """Whom to stop on a machine so that a shape has room there, None where that is not to be had."""
        soon = room.soon()
        if room.node.closed is not None or soon is None:
            return None
        chosen: list[Busy] = []
        held: dict[str, int] = {}
        for busy in self._by_room().get(room.index, ()):
            if within(shape, soon):
                break
            if self._may_stop(busy, priority, held, below=below):
                chosen.append(busy)
                held[busy.account_id] = held.get(busy.account_id, 0) + self._shares.size(busy.resources)
                soon = _and(soon, [busy])
        if not chosen or not within(shape, soon) or self._taken_before(room, soon):
            return None
        for busy in list(chosen):  # a larger one chosen later may make a smaller one needless
            less = _and(soon, [busy], sign=-1)
            if within(shape, less):
                chosen.remove(busy)
                soon = less
        return chosen

    def _may_stop(self, busy: Busy, priority: int, held: dict[str, int], *, below: bool) -> bool:
        if (busy.run_id, busy.attempt) in self._stopped:
            return False
        if self._policy.by_priority and busy.priority < priority:
            return True
        owner = self._shares.accounts.get(busy.account_id)
        if not below or owner is None or busy.priority > priority:
            return False
        return owner.held - held.get(busy.account_id, 0) - self._shares.size(busy.resources) >= owner.due

    def _by_room(self) -> dict[int, list[Busy]]:
        """What may be stopped at all, by machine, in the order in which it is."""
        if self._settled is None:
            self._settled = {}
            newest = self._now - self._policy.settle_ms
            for room in self._yard.open:
                able = [busy for busy in room.busy if busy.preemptible and not busy.stopping]
                old = [busy for busy in able if busy.since_ms <= newest]
                if old:
                    old.sort(key=lambda busy: (busy.priority, -busy.since_ms, busy.run_id))
                    self._settled[room.index] = old
                    self._least.append((old[0].priority, min(map(self._loss, old)), room.index))
                if len(old) < len(able):
                    at = min(busy.since_ms for busy in able if busy.since_ms > newest) + self._policy.settle_ms
                    self.settles_at = at if self.settles_at is None else min(self.settles_at, at)
            heapify(self._least)
        return self._settled

    def _loss(self, busy: Busy) -> int:
        return self._shares.size(busy.resources) * (self._now - busy.since_ms)


def _and(amount: Amount, victims: list[Busy], *, sign: int = 1) -> Amount:
    gpus, cpus, memory = amount
    for busy in victims:
        gpus += sign * busy.resources.gpus
        cpus += sign * busy.resources.cpu_millis
        memory += sign * busy.resources.memory_mib
    return gpus, cpus, memory
