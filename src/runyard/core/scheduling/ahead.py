"""Grants ahead: which waiting runs a node may start by itself as soon as an attempt of their class ends there.

A run that takes milliseconds would else wait for the way to the server and back. What is granted takes over the room of
an attempt of the same class, so it uses no more of a machine or a quota than is in use; and it is granted only in the
order of the queue, so that nobody is overtaken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from runyard.core.resources import Resources
from runyard.core.scheduling.plan import Plan, Wait, in_order
from runyard.core.scheduling.snapshot import Head, QueueClass, Snapshot

SHORT_MS: Final = 2_000
"""Only classes whose attempts take less than this are granted ahead."""
WORK_MS: Final = 1_000
"""So much work is to lie ready for each attempt that runs, about."""
MOST: Final = 16
"""Grants for each attempt that runs, at most."""
HOLD_MS: Final = 3_000
"""A node declines what it could not begin for so long: what is held, moved or overtaken meanwhile waits no longer."""

Place = tuple[int, str]
"""A class and a node."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Grant ``run_id`` to a node."""

    run_id: str
    class_id: int
    node_id: str


def per_attempt(pace_ms: float) -> int:
    """Grants for each running attempt of a class of this pace; 0 for one that is not short."""
    return min(MOST, max(1, int(WORK_MS / max(1.0, pace_ms)))) if pace_ms < SHORT_MS else 0


def give_ahead(
    snapshot: Snapshot, plan: Plan, running: Mapping[Place, int], pace: Mapping[int, float]
) -> tuple[Grant, ...]:
    """Decide the grants, in the order of the queue, beside the starts of a plan.

    ``running``: attempts that hold room, by class and node, without the plan's starts; ``pace``: the mean duration of a
    class's attempts in milliseconds, where it is known. What is granted already is refilled once a quarter is used up.
    """
    if snapshot.paused or not pace:
        return ()
    return tuple(_Field(snapshot, plan, running, pace).grants())


class _Field:
    def __init__(self, snapshot: Snapshot, plan: Plan, running: Mapping[Place, int], pace: Mapping[int, float]) -> None:
        self._plan = plan
        self._classes = snapshot.classes
        self._quotas = {account.id: account.quota_gpus for account in snapshot.accounts}
        self._started = {start.run_id for start in plan.starts}
        self._wanted = self._missing(snapshot, running, pace)
        self._lasts = {each.heads[-1].run_id for each in snapshot.classes if _is_cut(each, snapshot.depth)}
        self._blocked: set[str] = set()
        self._held: set[str] = set()

    def _missing(self, snapshot: Snapshot, running: Mapping[Place, int], pace: Mapping[int, float]) -> dict[Place, int]:
        """How many grants each class lacks on each node."""
        full = {node.id for node in snapshot.nodes if node.closed is not None or _overfull(node.free)}
        over = {
            a.id for a in snapshot.accounts if a.paused or (a.quota_gpus is not None and a.used_gpus > a.quota_gpus)
        }
        accounts = {each.id: each.account_id for each in snapshot.classes}
        out = Counter(
            (each.id, head.node_id)
            for each in snapshot.classes
            for head in each.heads
            if head.granted and head.run_id not in self._started
        )
        here = Counter(running) + Counter((start.class_id, start.node_id) for start in self._plan.starts)
        missing: dict[Place, int] = {}
        for place, count in here.items():
            class_id, node_id = place
            if class_id not in pace or node_id in full or accounts.get(class_id) in (None, *over):
                continue
            target = count * per_attempt(pace[class_id])
            if 4 * (target - out[place]) >= target:
                missing[place] = target - out[place]
        return missing

    def grants(self) -> Iterator[Grant]:
        for queue_class, head in in_order(self._classes):
            if not any(self._wanted.values()):
                return
            started = head.granted or head.run_id in self._started
            if not started and self._may(queue_class, head):
                yield Grant(head.run_id, queue_class.id, head.node_id)
            if head.run_id in self._lasts:  # there are more behind it, which nobody may overtake
                self._blocked.update(each.node_id for each in queue_class.heads)
                self._held.add(queue_class.account_id)

    def _may(self, queue_class: QueueClass, head: Head) -> bool:
        """Whether a head is granted. One that is not, and waits for room or quota, lets nobody behind it have them."""
        kind, _ = self._plan.heads.get(head.run_id, (Wait.capacity, ""))
        if kind not in (Wait.capacity, Wait.behind, Wait.quota):
            return False
        place = (queue_class.id, head.node_id)
        free = head.node_id not in self._blocked and queue_class.account_id not in self._held
        if free and self._wanted.get(place, 0) > 0:
            self._wanted[place] -= 1
            return True
        quota = self._quotas.get(queue_class.account_id)
        if kind is not Wait.quota:
            self._blocked.add(head.node_id)
        elif quota is not None and queue_class.shape.gpus <= quota:
            self._held.add(queue_class.account_id)
        return False


def _is_cut(queue_class: QueueClass, depth: int) -> bool:
    """Whether a class may have more heads than were looked at."""
    return depth > 0 and sum(not head.granted for head in queue_class.heads) >= depth


def _overfull(free: Resources) -> bool:
    return min(free.gpus, free.cpu_millis, free.memory_mib) < 0
