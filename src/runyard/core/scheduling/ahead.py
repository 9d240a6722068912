"""Grants ahead: which waiting runs a node may start by itself as soon as an attempt of their class ends there.

A run that takes milliseconds would else wait for the way to the server and back. What is granted takes over the room of
an attempt of the same class, so it uses no more of a machine or a quota than is in use; and it is granted only in the
order of the queue, so that nobody is overtaken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from runyard.core.resources import Resources
from runyard.core.scheduling.decisions import Plan, Wait
from runyard.core.scheduling.order import Order
from runyard.core.scheduling.share import after
from runyard.core.scheduling.snapshot import AccountRoom, Head, QueueClass, Snapshot

SHORT_MS: Final = 2_000
"""Only classes whose attempts take less than this are granted ahead."""
WORK_MS: Final = 1_000
"""So much work is to lie ready for each attempt that runs, about."""
MOST: Final = 16
"""Grants for each attempt that runs, at most."""
HOLD_MS: Final = 3_000
"""A node declines what it could not begin for so long: what is held, moved or overtaken meanwhile waits no longer."""
LEASE_MS: Final = HOLD_MS + 500
"""After so long no grant begins any more, with what the clocks of a server and of a machine differ by in that time."""

_MAY: Final = frozenset({Wait.capacity, Wait.behind, Wait.quota, Wait.share})
"""Who waits for these alone may be granted the room of another."""

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


def lasts_ms(snapshot: Snapshot, grants: Sequence[Grant], pace: Mapping[int, float]) -> float:
    """How long it takes, about, until the first of the classes with grants has used up the quarter that is refilled; 0
    where there are no grants."""
    classes = {each.id for each in snapshot.classes if any(head.granted for head in each.heads)}
    classes |= {grant.class_id for grant in grants}
    return min((max(1.0, pace.get(each, 0.0)) * per_attempt(pace.get(each, 0.0)) / 4 for each in classes), default=0.0)


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


def promoted(snapshot: Snapshot, plan: Plan) -> Plan:
    """The plan, in whose starts the last runs of a class that were granted to a machine stand for the first ones.

    The machine may have begun the first ones already, in rooms that became free there, before anybody hears of it: the
    room that a plan gives them would stay empty, and be given to the next one that has begun, for as long as that goes
    on. The last ones it has not come to yet; they start at most about ``WORK_MS`` before their turn.
    """
    lines: dict[Place, list[str]] = {}
    for each in snapshot.classes:
        for head in each.heads:
            if head.granted:
                lines.setdefault((each.id, head.node_id), []).append(head.run_id)
    granted = {run_id for line in lines.values() for run_id in line}
    count = Counter((start.class_id, start.node_id) for start in plan.starts if start.run_id in granted)
    last = {place: iter(lines[place][-many:]) for place, many in count.items()}
    starts = tuple(
        replace(start, run_id=next(last[start.class_id, start.node_id])) if start.run_id in granted else start
        for start in plan.starts
    )
    return replace(plan, starts=starts) if last else plan


def to_take_back(snapshot: Snapshot) -> tuple[str, ...]:
    """The runs that were granted and would not be now: of a queue that is held, an account that may start nothing or
    would get no grants, a machine that is closed."""
    granted = [(each.account_id, head) for each in snapshot.classes for head in each.heads if head.granted]
    if not granted:
        return ()
    full, without = _full(snapshot), _without(snapshot)
    return tuple(
        head.run_id
        for account_id, head in granted
        if snapshot.paused or account_id in without or head.node_id in full or head.opens_ms > snapshot.now_ms
    )


def _full(snapshot: Snapshot) -> set[str]:
    """The machines on which nothing is granted."""
    return {node.id for node in snapshot.nodes if node.closed is not None or _overfull(node.free)}


def _without(snapshot: Snapshot) -> set[str]:
    """The accounts that get no grants."""
    return {each.id for each in snapshot.accounts if _gets_none(each)}


def _gets_none(account: AccountRoom) -> bool:
    if account.paused or account.stopped is not None or not account.ahead:
        return True
    if account.quota_gpus is not None and account.used_gpus > account.quota_gpus:
        return True
    most = account.quota
    return most is not None and (
        0 < most.cpu_millis < account.used.cpu_millis or 0 < most.memory_mib < account.used.memory_mib
    )


class _Field:
    def __init__(self, snapshot: Snapshot, plan: Plan, running: Mapping[Place, int], pace: Mapping[int, float]) -> None:
        self._plan = plan
        self._classes = snapshot.classes
        self._quotas = {account.id: account.quota_gpus for account in snapshot.accounts}
        self._started = {start.run_id for start in plan.starts}
        self._wanted = self._missing(snapshot, running, pace)
        self._lasts = {each.heads[-1].run_id for each in snapshot.classes if _is_cut(each, snapshot.depth)}
        self._shares = after(snapshot, plan)
        self._order = Order(snapshot, self._shares)
        self._blocked = {each.node_id for run_id, each in plan.reservations.items() if run_id not in self._pinned()}
        self._all_blocked = False
        self._held: set[str] = set()

    def _pinned(self) -> set[str]:
        """Heads that are bound to a machine: they block it when it is their turn."""
        return {head.run_id for each in self._classes for head in each.heads if head.node_id}

    def _missing(self, snapshot: Snapshot, running: Mapping[Place, int], pace: Mapping[int, float]) -> dict[Place, int]:
        """How many grants each class lacks on each node."""
        full, without = _full(snapshot), _without(snapshot)
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
            if class_id not in pace or node_id in full or accounts.get(class_id) in (None, *without):
                continue
            target = count * per_attempt(pace[class_id])
            if 4 * (target - out[place]) >= target:
                missing[place] = target - out[place]
        return missing

    def grants(self) -> Iterator[Grant]:
        for account, queue_class, head in self._order:
            if not any(self._wanted.values()) or self._all_blocked:
                return
            started = head.granted or head.run_id in self._started
            node_id = None if started else self._may(queue_class, head)
            if node_id is not None:
                account.take(queue_class.shape, self._shares.size(queue_class.shape))
                yield Grant(head.run_id, queue_class.id, node_id)
            if head.run_id in self._lasts:  # there are more behind it, which nobody may overtake
                for each in queue_class.heads:
                    self._block(each.node_id)
                self._held.add(queue_class.account_id)

    def _may(self, queue_class: QueueClass, head: Head) -> str | None:
        """Where a head is granted, None if nowhere. One that is not, and waits for room or quota, lets nobody behind
        it have them."""
        kind, _ = self._plan.heads.get(head.run_id, (Wait.capacity, ""))
        if kind not in _MAY:
            return None
        node_id = None if queue_class.account_id in self._held else self._place(queue_class, head)
        if node_id is not None:
            self._wanted[(queue_class.id, node_id)] -= 1
            return node_id
        quota = self._quotas.get(queue_class.account_id)
        if kind is not Wait.quota:
            self._block(head.node_id)
        elif quota is not None and queue_class.shape.gpus <= quota:
            self._held.add(queue_class.account_id)
        return None

    def _place(self, queue_class: QueueClass, head: Head) -> str | None:
        """A machine where the class lacks grants and nobody waits who comes first."""
        if head.node_id:
            nodes = [head.node_id]
        else:
            nodes = sorted(node for class_id, node in self._wanted if class_id == queue_class.id)
        for node_id in nodes:
            if node_id not in self._blocked and self._wanted.get((queue_class.id, node_id), 0) > 0:
                return node_id
        return None

    def _block(self, node_id: str) -> None:
        """One who waits for room on a machine lets nobody behind it have grants there; one who takes any, nowhere."""
        self._blocked.add(node_id)
        self._all_blocked = self._all_blocked or not node_id


def _is_cut(queue_class: QueueClass, depth: int) -> bool:
    """Whether a class may have more heads than were looked at."""
    return depth > 0 and sum(not head.granted for head in queue_class.heads) >= depth


def _overfull(free: Resources) -> bool:
    return min(free.gpus, free.cpu_millis, free.memory_mib) < 0
