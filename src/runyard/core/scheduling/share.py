"""Shares: what is due to each account, what it holds, and who goes first.

An account that holds less than is due to it goes before one that does not, whatever they used before: so what is due
is had by who wants it. Within both, who has had least for its weight goes first; what was used long ago counts less.
Amounts are millionths of a GPU, integers, so that no sum depends on the order in which rows were read.
"""

from __future__ import annotations

from typing import Final

from runyard.core.resources import Resources
from runyard.core.run import BLOCKED
from runyard.core.scheduling.balance import counted_on, told
from runyard.core.scheduling.decisions import No, Plan, Share, Wait
from runyard.core.scheduling.room import sum_of
from runyard.core.scheduling.snapshot import NOTHING, AccountRoom, Balance, QueueClass, Snapshot

ONE: Final = 1_000_000
"""One GPU."""
HELD_MS: Final = 3_600_000
"""What is held counts as if it were used for so long: what a plan gives must count before time has passed."""

DEEP: Final = 4
"""An account is short of room while so many times its due waits, in runs no larger than that: for an hour or more,
about. What waits for a moment, or for a machine that is empty, is not had by others."""
OWED_MS: Final = 900_000
"""Who has had his due of so long too much goes behind those that lack something of theirs."""

OWES: Final[No] = (
    Wait.share,
    "It is larger than what is due to its account, which has had more: the others have theirs before.",
)

Standing = tuple[int, float]
"""Less goes first: 0 for a run that was promised its turn, by since when; 1 for an account that lacks something of its
due, 2 for one that has it or owes, both by what it used and holds for its weight."""


class Account:
    """An account while a plan is made. ``held`` and ``due`` in millionths of a GPU; ``ahead``: it has used more for its
    weight than all together. ``over``: what it has had above its due while others were short (times ms, see
    :class:`Balance`); ``owes``: so much that it does not go first. ``lacked``: a run of it lacked room. ``limits``: its
    quota of GPUs, milli-CPUs and MiB (None: no limit), ``busy``: what it has of them."""

    __slots__ = (
        "ahead",
        "busy",
        "due",
        "held",
        "held_kinds",
        "id",
        "lacked",
        "limits",
        "over",
        "owes",
        "reserved",
        "room",
        "wants",
        "weight",
    )

    def __init__(self, room: AccountRoom) -> None:
        self.id = room.id
        self.room = room
        self.weight = max(room.weight, 1e-9)
        self.held = 0
        self.due = 0
        self.wants = False
        self.reserved = False
        self.ahead = False
        self.over = 0
        self.owes = False
        self.lacked = False
        more = room.quota or NOTHING
        self.limits = (room.quota_gpus, more.cpu_millis or None, more.memory_mib or None)
        self.busy = (room.used_gpus, room.used.cpu_millis, room.used.memory_mib)
        self.held_kinds: set[int] = set()

    def standing(self) -> Standing:
        used = (self.room.used_ms + self.held / ONE * HELD_MS) / self.weight
        return 2 if self.owes or self.held >= self.due else 1, used

    def take(self, shape: Resources, size: int) -> None:
        """Count a start."""
        self.held += size
        gpus, cpus, memory = self.busy
        self.busy = (gpus + shape.gpus, cpus + shape.cpu_millis, memory + shape.memory_mib)


class Shares:
    """The accounts of a snapshot by id, and how large a run is beside the whole."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.accounts = {room.id: Account(room) for room in snapshot.accounts}
        self._total = _capacity(snapshot)
        self._machines = sum(node.closed is None for node in snapshot.nodes)
        self._sizes: dict[Resources, int] = {}
        for busy in snapshot.busy:
            if (account := self.accounts.get(busy.account_id)) is not None:
                account.held += self.size(busy.resources)
        for queue_class in snapshot.classes:
            account = self.accounts[queue_class.account_id]
            account.wants = account.wants or _wants(queue_class, account.room, snapshot)
        self.capacity = self._whole() * ONE
        here = [each for _, each in sorted(self.accounts.items()) if each.wants or each.held]
        weights = sum(each.weight for each in here)
        used = sum(each.room.used_ms for each in here)
        for each in here:
            each.due = int(self.capacity * each.weight / weights)
            each.ahead = each.room.used_ms * weights > each.weight * used
        self._overs = counted_on(snapshot, {each.id: each.due for each in here})
        for name, over in self._overs.items():
            account = self.accounts[name]
            account.over = over
            account.owes = over > account.due * OWED_MS

    def balances(self, snapshot: Snapshot) -> dict[str, Balance]:
        """Where each account stands once all heads had their turn, for the next plan to count on."""
        lacked = [each for each in self.accounts.values() if each.lacked]
        waiting = self._waiting(snapshot) if lacked else {}
        return told(snapshot, self._overs, {each.id for each in lacked if waiting.get(each.id, 0) >= DEEP * each.due})

    def _waiting(self, snapshot: Snapshot) -> dict[str, int]:
        """What waits of each account, in runs no larger than its due: millionths of a GPU."""
        waiting: dict[str, int] = {}
        for queue_class in snapshot.classes:
            account = self.accounts[queue_class.account_id]
            size = self.size(queue_class.shape)
            if size <= account.due:
                count = queue_class.ready or sum(head.not_before_ms < BLOCKED for head in queue_class.heads)
                waiting[account.id] = waiting.get(account.id, 0) + size * count
        return waiting

    def _whole(self) -> int:
        return self._total.gpus or self._machines

    def size(self, shape: Resources) -> int:
        """How much of the whole a shape is: its GPUs; without any, the larger of its shares of CPUs and memory."""
        if shape.gpus:
            return shape.gpus * ONE
        known = self._sizes.get(shape)
        if known is None:
            part = max(
                shape.cpu_millis / max(1, self._total.cpu_millis), shape.memory_mib / max(1, self._total.memory_mib)
            )
            known = self._sizes[shape] = int(part * self._whole() * ONE)
        return known

    def told(self) -> dict[str, Share]:
        """The shares of all that hold or want something, as they are now."""
        low = {each.id for each in self.accounts.values() if each.wants and each.held < each.due}
        return {
            each.id: Share(each.due / ONE, each.held / ONE, self.capacity / ONE, bool(low - {each.id}))
            for each in self.accounts.values()
            if each.due
        }


def after(snapshot: Snapshot, plan: Plan) -> Shares:
    """The shares once the starts of a plan are made."""
    shares = Shares(snapshot)
    classes = {each.id: each for each in snapshot.classes}
    for start in plan.starts:
        queue_class = classes[start.class_id]
        shares.accounts[queue_class.account_id].take(queue_class.shape, shares.size(queue_class.shape))
    return shares


def _wants(queue_class: QueueClass, account: AccountRoom, snapshot: Snapshot) -> bool:
    if snapshot.paused or account.paused or account.stopped is not None:
        return False
    now = snapshot.now_ms
    return any(head.not_before_ms <= now and head.opens_ms <= now for head in queue_class.heads)


def _capacity(snapshot: Snapshot) -> Resources:
    """What the open machines have: what is free there and what is held."""
    open_ones = {node.id for node in snapshot.nodes if node.closed is None}
    rooms = [node.free for node in snapshot.nodes if node.closed is None]
    rooms += [busy.resources for busy in snapshot.busy if busy.node_id in open_ones]
    return Resources(*sum_of(rooms)).floored()
