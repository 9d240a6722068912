"""Making room: which attempts are stopped, with their checkpoint, so that a run that waits can start.

An account below its due share takes back what others have borrowed: attempts of accounts that hold their due without
them. Where the operator says so, a run also takes the room of those of lower priority. The lowest priority goes first,
then the youngest; never one more than is needed, none where the run could not start then, none of higher priority than
the run, and none for a run that another one ahead of it would be given the room before.

A run larger than what is due to its account is on loan: where others are short of room it is stopped once the account
has had its due of ``Policy.loan_ms`` too much, and waits until that is made up for.
"""

from __future__ import annotations

from enum import IntEnum
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
SAME_LOANS: Final = 3
"""So many attempts of a run larger than its account's due have the same loan."""
COMING: Final[No] = Wait.capacity, "Room is being made for it: it starts as soon as other runs have stopped."
OVERDRAWN: Final = (
    "Stopped because its account has had more than is due to it and others wait for theirs; it waits again with its "
    "checkpoint."
)
BORROWED: Final = (
    "Stopped to give back borrowed room to an account that holds less than is due to it; "
    "it waits again with its checkpoint."
)
OUTRANKED: Final = "Stopped to make room for a run of higher priority; it waits again with its checkpoint."

Cost = tuple[int, int, int]
"""The highest priority among those to be stopped, what they have computed (millionths of a GPU, ms), the machine."""


class Right(IntEnum):
    """What a run may take back: nothing but by priority, what was on loan for too long, all that is borrowed."""

    nothing = 0
    loans = 1
    borrowed = 2


class Victim:
    """An attempt that may be stopped: whose it is (None: of no account that is known), how large, and what would be
    lost (millionths of a GPU, ms)."""

    __slots__ = ("busy", "loss", "owner", "size", "stopped")

    def __init__(self, busy: Busy, owner: Account | None, size: int, now: int) -> None:
        self.busy = busy
        self.owner = owner
        self.size = size
        self.loss = size * (now - busy.since_ms)
        self.stopped = False


class Reclaim:
    """Finds and notes whom to stop, and promises what comes free."""

    def __init__(self, snapshot: Snapshot, yard: Yard, shares: Shares) -> None:
        self.preempts: list[Preempt] = []
        self.reservations: dict[str, Reservation] = {}
        self.settles_at: int | None = None
        self._policy = snapshot.policy
        self._fair = snapshot.policy.preemption and snapshot.policy.fair_share
        self._overdrawn = [each for each in shares.accounts.values() if each.over > each.due * self._policy.loan_ms]
        self._now = snapshot.now_ms
        self._yard = yard
        self._shares = shares
        self._passed: dict[str, set[Resources]] = {}
        self._costs: dict[tuple[Resources, int, Right], list[Cost]] = {}
        self._settled: dict[int, list[Victim]] | None = None
        self._least: list[Cost] = []
        self._coming = [room for room in yard.open if room.stopping]

    def helps(self, queue_class: QueueClass, head: Head, account: Account) -> bool:
        """Whether room is being made for a head that lacks it: it is then promised to it."""
        shape, size = queue_class.shape, self._shares.size(queue_class.shape)
        right = self._right(account, size)
        found = None
        if (right or self._policy.by_priority) and len(self.reservations) < MOST:
            found = self._room_coming(shape, head) or self._stop_some(queue_class, head, right)
        if found is None:
            self._passed.setdefault(head.node_id, set()).add(shape)
            return False
        soon = found.soon()
        if soon is not None:
            found.claim(shape, soon, account.id, queue_class.priority)
        account.take(shape, size)
        self.reservations[head.run_id] = Reservation(found.id, self._now + STOPPING_MS)
        return True

    def _right(self, account: Account, size: int) -> Right:
        if not self._fair or account.owes or account.held >= account.due:
            return Right.nothing
        if account.held + size <= account.due:
            return Right.borrowed
        return Right.loans if self._overdrawn else Right.nothing

    def _room_coming(self, shape: Resources, head: Head) -> Room | None:
        """A machine where enough attempts are being stopped already."""
        for room in self._coming:
            if head.node_id in ("", room.id) and (soon := room.soon()) is not None and within(shape, soon):
                return None if self._taken_before(room, soon) else room
        return None

    def _taken_before(self, room: Room, amount: Amount) -> bool:
        """Whether one ahead in the queue would start in that room."""
        ahead = (*self._passed.get("", ()), *self._passed.get(room.id, ()))
        return any(within(shape, amount) for shape in ahead)

    def _stop_some(self, queue_class: QueueClass, head: Head, right: Right) -> Room | None:
        shape, priority = queue_class.shape, queue_class.priority
        if head.node_id:
            room = self._yard.by_id[head.node_id]
            victims = self._victims(room, shape, priority, right)
        else:
            room, victims = self._cheapest(shape, priority, right)
        if room is None or victims is None:
            return None
        for each in victims:
            self.preempts.append(Preempt(each.busy.run_id, each.busy.attempt, head.run_id, self._why(each, priority)))
            each.stopped = True
            if each.owner is not None:
                each.owner.held -= each.size
        soon = room.soon() or (0, 0, 0)
        for each in victims:
            soon = _more(soon, each.busy.resources)
        room.claim(Resources(), soon, queue_class.account_id, priority)
        return room

    def _why(self, each: Victim, priority: int) -> str:
        if self._policy.by_priority and each.busy.priority < priority:
            return OUTRANKED
        return BORROWED if each.owner is None or each.size <= each.owner.due else OVERDRAWN

    def _cheapest(self, shape: Resources, priority: int, right: Right) -> tuple[Room | None, list[Victim] | None]:
        """The machine where least is lost. The heap has bounds: what a machine costs at least, and only grows."""
        key = (shape, priority, right)
        if key not in self._costs:
            self._by_room()
            self._costs[key] = list(self._least)
        heap = self._costs[key]
        while heap:
            room = self._yard.rooms[heappop(heap)[-1]]
            victims = self._victims(room, shape, priority, right)
            if victims is not None:
                cost = max(each.busy.priority for each in victims), sum(each.loss for each in victims), room.index
                heappush(heap, cost)
                if heap[0] == cost:
                    return room, victims
        return None, None

    def _victims(self, room: Room, shape: Resources, priority: int, right: Right) -> list[Victim] | None:
        """Whom to stop on a machine so that a shape has room there, None where that is not to be had."""
        soon = room.soon()
        able = None if soon is None else self._by_room().get(room.index)
        if soon is None or able is None:
            return None
        chosen: list[Victim] = []
        held: dict[str, int] = {}
        fits = within(shape, soon)
        for each in able:
            if fits:
                break
            if not each.stopped and self._may_stop(each, priority, held, right):
                account_id = each.busy.account_id
                chosen.append(each)
                held[account_id] = held.get(account_id, 0) + each.size
                soon = _more(soon, each.busy.resources)
                fits = within(shape, soon)
        if not chosen or not fits or self._taken_before(room, soon):
            return None
        for each in list(chosen) if len(chosen) > 1 else ():  # a larger one may make a smaller one needless
            less = _less(soon, each.busy.resources)
            if within(shape, less):
                chosen.remove(each)
                soon = less
        return chosen

    def _may_stop(self, each: Victim, priority: int, held: dict[str, int], right: Right) -> bool:
        if self._policy.by_priority and each.busy.priority < priority:
            return True
        owner = each.owner
        if not right or owner is None or each.busy.priority > priority:
            return False
        if right is Right.borrowed and owner.held - held.get(owner.id, 0) - each.size >= owner.due:
            return True
        return owner in self._overdrawn and self._is_overdrawn(each, owner)

    def _is_overdrawn(self, each: Victim, owner: Account) -> bool:
        """Whether a run larger than its account's due has had its loan. From the fourth attempt on a loan is twice as
        long each time, so that a run without checkpoints ends as well."""
        loan = self._policy.loan_ms << max(0, each.busy.attempt - SAME_LOANS)
        aged = each.busy.since_ms <= self._now - loan
        return aged and each.size > owner.due and owner.over > owner.due * loan

    def _by_room(self) -> dict[int, list[Victim]]:
        """What may be stopped at all, by machine, in the order in which it is."""
        if self._settled is None:
            self._settled = {}
            for room in self._yard.open:
                old = self._old(room)
                if old:
                    old.sort(key=_first_to_go)
                    self._settled[room.index] = old
                    self._least.append((old[0].busy.priority, min(each.loss for each in old), room.index))
            heapify(self._least)
        return self._settled

    def _old(self, room: Room) -> list[Victim]:
        """What may be stopped on a machine, and when more may be."""
        now, accounts, size = self._now, self._shares.accounts, self._shares.size
        newest = now - self._policy.settle_ms
        old: list[Victim] = []
        for busy in room.busy:
            if busy.stopping or not busy.preemptible:
                continue
            if busy.since_ms <= newest:
                old.append(Victim(busy, accounts.get(busy.account_id), size(busy.resources), now))
            else:
                at = busy.since_ms + self._policy.settle_ms
                self.settles_at = at if self.settles_at is None else min(self.settles_at, at)
        return old


def _first_to_go(each: Victim) -> tuple[int, int, str]:
    return each.busy.priority, -each.busy.since_ms, each.busy.run_id


def _more(amount: Amount, other: Resources) -> Amount:
    gpus, cpus, memory = amount
    return gpus + other.gpus, cpus + other.cpu_millis, memory + other.memory_mib


def _less(amount: Amount, other: Resources) -> Amount:
    gpus, cpus, memory = amount
    return gpus - other.gpus, cpus - other.cpu_millis, memory - other.memory_mib
