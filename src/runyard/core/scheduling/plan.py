"""The plan: which waiting runs start now, where, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from heapq import merge

from runyard.core.scheduling.snapshot import AccountRoom, Head, NodeRoom, QueueClass, Snapshot


class Wait(StrEnum):
    """Why a ready run does not start now."""

    quota = "quota"
    capacity = "capacity"
    paused = "paused"
    backoff = "backoff"
    node_closed = "node_closed"
    behind = "behind"


@dataclass(frozen=True, slots=True)
class Start:
    """Start ``run_id`` on a node in these GPU slots (none for a run without GPUs)."""

    run_id: str
    class_id: int
    node_id: str
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. ``waits``: for each class that has a run left, why its first one waits.

    ``wake_at_ms``: the next time at which the plan changes by itself, None when only an event can change it.
    """

    starts: tuple[Start, ...]
    waits: Mapping[int, tuple[Wait, str]]
    wake_at_ms: int | None = None


def in_order(classes: tuple[QueueClass, ...]) -> Iterator[tuple[QueueClass, Head]]:
    """All heads, highest priority first, then by rank: the order of the queue."""
    lanes = (((-c.priority, head.rank, head.run_id, c, head) for head in c.heads) for c in classes)
    for *_, queue_class, head in merge(*lanes, key=lambda item: item[:3]):
        yield queue_class, head


def make_plan(snapshot: Snapshot) -> Plan:
    """Decide the starts.

    First come, first served within a priority. A run that its account's quota holds back also holds the account's
    later GPU runs, but nobody else's. A run that lacks room reserves what is free of what it needs, so that smaller
    ones behind it can neither starve it nor be blocked where they would not be in its way.
    """
    nodes = {node.id: node for node in snapshot.nodes}
    accounts = {account.id: account for account in snapshot.accounts}
    starts: list[Start] = []
    waits: dict[int, tuple[Wait, str]] = {}
    wake_at: int | None = None
    for queue_class, head in in_order(snapshot.classes):
        account, node = accounts[queue_class.account_id], nodes.get(head.node_id)
        no = _refusal(snapshot, queue_class, head, account, node)
        if no is None and node is not None:
            start, nodes[node.id] = _take(queue_class, head, node)
            accounts[account.id] = replace(account, used_gpus=account.used_gpus + queue_class.shape.gpus)
            starts.append(start)
            continue
        if no is None:
            continue
        first = queue_class.id not in waits
        waits.setdefault(queue_class.id, no)
        if no[0] is Wait.backoff:
            wake_at = head.not_before_ms if wake_at is None else min(wake_at, head.not_before_ms)
        elif no[0] is Wait.quota:
            accounts[account.id] = replace(account, used_gpus=max(account.used_gpus, account.quota_gpus or 0))
        elif no[0] is Wait.capacity and node is not None and first:
            nodes[node.id] = _reserve(queue_class, node)
    return Plan(tuple(starts), waits, wake_at)


def _refusal(
    snapshot: Snapshot, queue_class: QueueClass, head: Head, account: AccountRoom, node: NodeRoom | None
) -> tuple[Wait, str] | None:
    gpus = queue_class.shape.gpus
    if snapshot.paused:
        return Wait.paused, "The queue is paused: `runyard queue resume` lets it go on."
    if account.paused:
        return Wait.paused, "The account's queue is paused: `runyard queue resume` lets it go on."
    if head.not_before_ms > snapshot.now_ms:
        return (
            Wait.backoff,
            "The attempt before failed by the platform's fault; the next one starts after a short wait.",
        )
    if gpus and account.quota_gpus is not None and account.used_gpus + gpus > account.quota_gpus:
        return Wait.quota, f"The account's quota of {account.quota_gpus} GPUs is in use."
    if node is None or node.closed is not None:
        return Wait.node_closed, (
            node.closed if node and node.closed else "The machine that holds its data is not connected."
        )
    if gpus > len(node.free_slots) or not queue_class.shape.fits_in(node.free):
        return Wait.capacity, f"Waits for room: {_lacking(queue_class, node)}."
    return None


def _lacking(queue_class: QueueClass, node: NodeRoom) -> str:
    need, free = queue_class.shape, node.free.floored()
    parts: list[str] = []
    if need.gpus > len(node.free_slots):
        parts.append(f"{need.gpus} GPU slots ({len(node.free_slots)} free)")
    if need.cpu_millis > free.cpu_millis:
        parts.append(f"{need.cpu_millis / 1000:g} CPUs ({free.cpu_millis / 1000:g} free)")
    if need.memory_mib > free.memory_mib:
        parts.append(f"{need.memory_mib} MiB of memory ({free.memory_mib} free)")
    return ", ".join(parts) or "what runs ahead of it have reserved"


def _take(queue_class: QueueClass, head: Head, node: NodeRoom) -> tuple[Start, NodeRoom]:
    gpus = queue_class.shape.gpus
    taken, left = node.free_slots[:gpus], node.free_slots[gpus:]
    room = replace(node, free_slots=left, free=node.free - queue_class.shape)
    return Start(head.run_id, queue_class.id, node.id, taken), room


def _reserve(queue_class: QueueClass, node: NodeRoom) -> NodeRoom:
    free = (node.free - queue_class.shape).floored()
    return replace(node, free_slots=node.free_slots[queue_class.shape.gpus :], free=free)
