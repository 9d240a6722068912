"""The plan: which waiting runs start now, where, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from heapq import merge

from runyard.core.resources import Resources
from runyard.core.run import BLOCKED
from runyard.core.scheduling.snapshot import AccountRoom, Head, NodeRoom, QueueClass, Snapshot


class Wait(StrEnum):
    """Why a ready run does not start now."""

    quota = "quota"
    capacity = "capacity"
    paused = "paused"
    backoff = "backoff"
    node_closed = "node_closed"
    behind = "behind"
    after = "after"
    share = "share"
    budget = "budget"
    window = "window"


@dataclass(frozen=True, slots=True)
class Start:
    """Start ``run_id`` on a node in these GPU slots (none for a run without GPUs)."""

    run_id: str
    class_id: int
    node_id: str
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Preempt:
    """Stop this attempt, so that ``for_run_id`` can start; ``sentence`` says on whose behalf and why."""

    run_id: str
    attempt: int
    for_run_id: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room that is kept for a run: it starts at ``at_ms`` at the latest, as far as limits tell (None: they do not)."""

    node_id: str
    at_ms: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. ``waits``: for each class that has a head left, why its first one waits; ``heads``: the same
    for each head, by run id.

    ``wake_at_ms``: the next time at which the plan changes by itself, None when only an event can change it.
    ``preempts``: attempts to stop; ``reservations``: by run id.
    """

    starts: tuple[Start, ...]
    waits: Mapping[int, tuple[Wait, str]]
    wake_at_ms: int | None = None
    heads: Mapping[str, tuple[Wait, str]] = field(default_factory=dict[str, tuple[Wait, str]])
    preempts: tuple[Preempt, ...] = ()
    reservations: Mapping[str, Reservation] = field(default_factory=dict[str, Reservation])


def in_order(classes: tuple[QueueClass, ...]) -> Iterator[tuple[QueueClass, Head]]:
    """All heads, highest priority first, then by rank: the order of the queue."""
    for *_, queue_class, head in merge(*map(_lane, classes), key=lambda item: item[:3]):
        yield queue_class, head


def _lane(queue_class: QueueClass) -> Iterator[tuple[int, int, str, QueueClass, Head]]:
    return ((-queue_class.priority, head.rank, head.run_id, queue_class, head) for head in queue_class.heads)


def make_plan(snapshot: Snapshot) -> Plan:
    """Decide the starts.

    First come, first served within a priority. A run that its account's quota holds back also holds the account's
    later GPU runs, but nobody else's. A run that lacks room reserves what it needs of what is free, so that smaller
    ones behind it can neither starve it nor be blocked where they would not be in its way.
    """
    yard = _Yard(snapshot)
    starts: list[Start] = []
    waits: dict[int, tuple[Wait, str]] = {}
    heads: dict[str, tuple[Wait, str]] = {}
    wake_at: int | None = None
    for queue_class, head in in_order(snapshot.classes):
        no = yard.refusal(queue_class, head)
        if no is None:
            starts.append(yard.take(queue_class, head))
            continue
        heads[head.run_id] = no
        waits.setdefault(queue_class.id, no)
        if no[0] is Wait.backoff:
            wake_at = head.not_before_ms if wake_at is None else min(wake_at, head.not_before_ms)
        elif no[0] is Wait.window:
            wake_at = head.opens_ms if wake_at is None else min(wake_at, head.opens_ms)
        elif no[0] is Wait.quota:
            yard.hold(queue_class)
        elif no[0] in (Wait.capacity, Wait.behind):
            yard.reserve(queue_class, head)
    return Plan(tuple(starts), waits, wake_at, heads)


class _Yard:
    """What is left of nodes and quotas while a plan is made, and what of it is kept for those who wait."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._nodes = {node.id: node for node in snapshot.nodes}
        self._accounts = {account.id: account for account in snapshot.accounts}
        self._kept: dict[str, Resources] = {}
        self._keepers: set[tuple[int, str]] = set()
        self._held: set[str] = set()

    def refusal(self, queue_class: QueueClass, head: Head) -> tuple[Wait, str] | None:
        """Why a head cannot start now, None when it can."""
        account, node = self._accounts[queue_class.account_id], self._nodes.get(head.node_id)
        if head.not_before_ms >= BLOCKED:
            return Wait.after, "It waits for other runs to complete."
        if self._snapshot.paused:
            return Wait.paused, "The queue is paused: `runyard queue resume` lets it go on."
        if account.paused:
            return Wait.paused, "The account's queue is paused: `runyard queue resume` lets it go on."
        if account.stopped is not None:
            return Wait.budget, account.stopped
        if head.opens_ms > self._snapshot.now_ms:
            return Wait.window, "It may not start before its start window opens."
        if head.not_before_ms > self._snapshot.now_ms:
            return (
                Wait.backoff,
                "The attempt before failed by the platform's fault; the next one starts after a short wait.",
            )
        if node is None:
            return Wait.node_closed, "The machine that holds its data is not connected."
        if node.closed is not None:
            return Wait.node_closed, node.closed
        return self._over_quota(queue_class, account) or self._lack_of_room(queue_class, node)

    def _over_quota(self, queue_class: QueueClass, account: AccountRoom) -> tuple[Wait, str] | None:
        gpus, quota = queue_class.shape.gpus, account.quota_gpus
        if not gpus or quota is None:
            return None
        if gpus > quota:
            return Wait.quota, (
                f"The run needs {_gpus(gpus)} and the account's quota is {quota}: "
                "raise the quota, or cancel the run and ask for fewer."
            )
        if account.used_gpus + gpus > quota:
            return Wait.quota, (
                f"The account's quota of {_gpus(quota)} leaves no room: {account.used_gpus} in use, {gpus} needed."
            )
        if account.id in self._held:
            return Wait.quota, "An earlier run of the account waits for its quota and comes first."
        return None

    def _lack_of_room(self, queue_class: QueueClass, node: NodeRoom) -> tuple[Wait, str] | None:
        free = _room(node)
        if not queue_class.shape.fits_in(free):
            return Wait.capacity, f"Waits for room: {_lacking(queue_class.shape, free)}."
        if not queue_class.shape.fits_in((free - self._kept.get(node.id, Resources())).floored()):
            return Wait.behind, "What is free is kept for runs ahead of it that need more."
        return None

    def take(self, queue_class: QueueClass, head: Head) -> Start:
        """Give a head its slots, the lowest first, and count them against quota and node."""
        shape, node = queue_class.shape, self._nodes[head.node_id]
        account = self._accounts[queue_class.account_id]
        taken, left = node.free_slots[: shape.gpus], node.free_slots[shape.gpus :]
        self._nodes[node.id] = replace(node, free_slots=left, free=node.free - shape)
        self._accounts[account.id] = replace(account, used_gpus=account.used_gpus + shape.gpus)
        return Start(head.run_id, queue_class.id, node.id, taken)

    def hold(self, queue_class: QueueClass) -> None:
        """Keep an account's quota for a run that could have it; one that never can holds nobody."""
        account = self._accounts[queue_class.account_id]
        if account.quota_gpus is not None and queue_class.shape.gpus <= account.quota_gpus:
            self._held.add(account.id)

    def reserve(self, queue_class: QueueClass, head: Head) -> None:
        """Keep a node's room for a head; only the first of its class there, the others come after it anyway."""
        if (queue_class.id, head.node_id) not in self._keepers:
            self._keepers.add((queue_class.id, head.node_id))
            self._kept[head.node_id] = self._kept.get(head.node_id, Resources()) + queue_class.shape


def _room(node: NodeRoom) -> Resources:
    return replace(node.free, gpus=min(node.free.gpus, len(node.free_slots))).floored()


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def _lacking(need: Resources, free: Resources) -> str:
    parts: list[str] = []
    if need.gpus > free.gpus:
        parts.append(f"{need.gpus} GPU slot{'' if need.gpus == 1 else 's'} ({free.gpus} free)")
    if need.cpu_millis > free.cpu_millis:
        parts.append(f"{need.cpu_millis / 1000:g} CPUs ({free.cpu_millis / 1000:g} free)")
    if need.memory_mib > free.memory_mib:
        parts.append(f"{need.memory_mib} MiB of memory ({free.memory_mib} free)")
    return ", ".join(parts)
