"""Which machine: the open one that a run fills best, found without looking at all of them."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush

from runyard.core.resources import Resources
from runyard.core.scheduling.decisions import No, Wait
from runyard.core.scheduling.room import Room
from runyard.core.scheduling.share import Account
from runyard.core.scheduling.snapshot import Busy, Head, QueueClass, Snapshot

NOT_CONNECTED = Wait.node_closed, "The machine that holds its data is not connected."
NONE_OPEN = Wait.node_closed, "No machine takes runs now: see `runyard status`."
BEHIND = Wait.behind, "What is free is kept for runs ahead of it that need more."
STRICT = Wait.behind, "A run ahead of it waits for room, and the queue is served strictly in order."


class Yard:
    """All machines. They stand in heaps by size and free GPUs, so that the smallest with the fewest that suffice is
    found at once; what no machine has room for once is not looked for again, since within a plan room only shrinks."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.now = snapshot.now_ms
        busy: dict[str, list[Busy]] = {}
        for each in snapshot.busy:
            busy.setdefault(each.node_id, []).append(each)
        nodes = sorted(snapshot.nodes, key=lambda node: node.id)
        self.rooms = [Room(node, n, busy.get(node.id, []), self.now) for n, node in enumerate(nodes)]
        self.by_id = {room.id: room for room in self.rooms}
        self.open = [room for room in self.rooms if room.node.closed is None]
        self.all_shut = False
        self._shut: set[str] = set()
        self._by_size = snapshot.policy.small_first
        self._heaps: dict[int, dict[int, list[int]]] = {}
        for room in self.open:
            self._heaps_with(room).setdefault(room.gpus, []).append(room.index)
        self._sizes = sorted(self._heaps)
        self._left: dict[Resources, list[Room]] = {}
        self._texts: dict[Resources, tuple[Room, str]] = {}

    def end(self, head: Head) -> int | None:
        """When a head is over at the latest if it starts now."""
        return None if head.limit_ms is None else self.now + head.limit_ms

    def find(self, shape: Resources, head: Head) -> Room | None:
        """Where a head can start now."""
        if self.all_shut or head.node_id in self._shut:
            return None
        end = self.end(head)
        if not head.node_id:
            return self._best(shape, end)
        room = self.by_id[head.node_id]
        return room if room.takes(shape, end) else None

    def closed(self, head: Head) -> No | None:
        """Why no machine that a head could have takes anything."""
        if not head.node_id:
            return None if self.open else NONE_OPEN
        room = self.by_id.get(head.node_id)
        if room is None:
            return NOT_CONNECTED
        return None if room.node.closed is None else (Wait.node_closed, room.node.closed)

    def _best(self, shape: Resources, end: int | None) -> Room | None:
        known = self._left.get(shape)
        if known is not None:
            return self._least(room for room in known if room.takes(shape, end))
        for size in self._sizes:
            heaps = self._heaps[size]
            for gpus in range(shape.gpus, max(heaps) + 1):
                heap = heaps.get(gpus)
                if heap and (room := self._first(heap, gpus, shape, end)) is not None:
                    return room
        self._left[shape] = [room for room in self.open if room.gpus >= shape.gpus and room.holds(shape)]
        return None

    def _least(self, rooms: Iterable[Room]) -> Room | None:
        return min(rooms, key=lambda room: (room.size * self._by_size, room.gpus, room.index), default=None)

    def _heaps_with(self, room: Room) -> dict[int, list[int]]:
        """By free GPUs, the machines of its size, or all."""
        return self._heaps.setdefault(room.size if self._by_size else 0, {})

    def _first(self, heap: list[int], gpus: int, shape: Resources, end: int | None) -> Room | None:
        """The first of a heap that takes the run. One whose GPUs are fewer by now stands in another heap."""
        aside: list[int] = []
        found = None
        while heap:
            room = self.rooms[heap[0]]
            if room.gpus != gpus:
                heappop(heap)
            elif room.takes(shape, end):
                found = room
                break
            else:
                aside.append(heappop(heap))
        for index in aside:
            heappush(heap, index)
        return found

    def give(self, room: Room, shape: Resources, head: Head) -> tuple[int, ...]:
        """Give a head its slots there."""
        slots = room.take(shape, self.end(head))
        for stale in [need for need, (best, _) in self._texts.items() if best is room]:
            del self._texts[stale]
        if shape.gpus and room.node.closed is None:
            heappush(self._heaps_with(room).setdefault(room.gpus, []), room.index)
        return slots

    def shut(self, head: Head) -> None:
        """Let nobody behind this head start where it could."""
        self._shut.add(head.node_id)
        self.all_shut = self.all_shut or not head.node_id

    def why_not(self, queue_class: QueueClass, head: Head, account: Account) -> No:
        """Why a head that :meth:`find` found no room for must wait."""
        if self.all_shut or head.node_id in self._shut:
            return STRICT
        shape = queue_class.shape
        if head.node_id:
            there = [self.by_id[head.node_id]] if self.by_id[head.node_id].holds(shape) else []
        else:
            there = [room for room in self._left.get(shape, ()) if room.holds(shape)]
        if not there:
            return Wait.capacity, f"Waits for room: {self._lacking(shape, head)}"
        kept = there[0].kept
        if kept is not None and kept.account_id != account.id and kept.priority == queue_class.priority:
            return _kept_for_others(account)
        return BEHIND

    def _lacking(self, need: Resources, head: Head) -> str:
        if head.node_id:
            return _lacking(need, self.by_id[head.node_id])
        known = self._texts.get(need)
        if known is None:
            able = [room for room in self.open if room.gpus >= need.gpus] or self.open
            best = max(able, key=lambda room: (room.gpus if able is self.open else 0, room.cpus, room.memory))
            known = self._texts[need] = best, _lacking(need, best, "free on one machine")
        return known[1]


def _kept_for_others(account: Account) -> No:
    if account.held >= account.due:
        return Wait.share, "What is free is kept for an account that holds less of what is due to it."
    return Wait.share, "What is free is kept for an account that has had less of what is due to it."


def _lacking(need: Resources, room: Room, free: str = "free") -> str:
    cpus, memory = max(0, room.cpus), max(0, room.memory)
    parts: list[str] = []
    if need.gpus > room.gpus:
        parts.append(f"{need.gpus} GPU slot{'' if need.gpus == 1 else 's'} ({room.gpus} {free})")
    if need.cpu_millis > cpus:
        parts.append(f"{need.cpu_millis / 1000:g} CPUs ({cpus / 1000:g} {free})")
    if need.memory_mib > memory:
        parts.append(f"{need.memory_mib} MiB of memory ({memory} {free})")
    kept_back = room.node.shut if need.gpus > room.gpus else ()
    return " ".join([f"{', '.join(parts)}.", *kept_back])
