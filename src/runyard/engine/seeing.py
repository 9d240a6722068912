"""Reading what a plan depends on: machines, what holds room, what accounts are due, the heads of the queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from runyard.core.resources import Resources
from runyard.core.scheduling.ahead import per_attempt
from runyard.core.scheduling.snapshot import Busy, NodeRoom, Snapshot
from runyard.engine import shares
from runyard.engine.world import World
from runyard.ports.shares import AccountShare
from runyard.ports.store import Holding, Node


@dataclass(frozen=True, slots=True)
class Look:
    """What was read at one moment."""

    now_ms: int
    holdings: Sequence[Holding]
    nodes: Sequence[Node]
    parts: Mapping[str, AccountShare]

    @staticmethod
    def of(world: World, now: int) -> Look:
        """Read all but the queue."""
        return Look(now, world.store.holdings(), world.store.nodes(), world.store.shares(now))

    def snapshot(self, world: World) -> Snapshot:
        """What a plan depends on."""
        means = world.pace.means()
        rooms = _rooms(world, self.nodes, self.holdings)
        awaited = world.awaited.sentence(self.now_ms)
        if awaited is not None:
            rooms = tuple(replace(room, closed=awaited) for room in rooms)
        heads = 1 + sum(len(room.free_slots) + max(0, room.free.cpu_millis) // 500 for room in rooms)
        depth = heads + _most_ahead(means, self.holdings)
        expected = {class_id: round(mean) for class_id, mean in means.items()}
        opens = shares.opens(self.now_ms, self.parts)
        return Snapshot(
            now_ms=self.now_ms,
            nodes=rooms,
            accounts=shares.rooms(world, self.now_ms, world.store.accounts(), self.parts, self.holdings, self.nodes),
            classes=tuple(world.store.classes(self.now_ms, depth, expected=expected, opens=opens)),
            paused=world.store.queue_paused(),
            depth=depth,
            busy=tuple(_busy(holding, expected) for holding in self.holdings),
            policy=world.rules.policy,
            promises=world.promises.made(),
            balances=world.promises.balances(),
        )


def snapshot(world: World, now: int) -> Snapshot:
    """Read what a plan depends on."""
    return Look.of(world, now).snapshot(world)


def draining(node: Node) -> str:
    """The sentence about a machine that is being drained."""
    return (
        f"The machine {node.name} is being drained: nothing new starts on it before `runyard nodes resume {node.name}`."
    )


def _rooms(world: World, nodes: Sequence[Node], holdings: Sequence[Holding]) -> tuple[NodeRoom, ...]:
    theirs: dict[str, list[Holding]] = {node.id: [] for node in nodes}
    for holding in holdings:
        theirs.setdefault(holding.node_id, []).append(holding)
    return tuple(_room(world, node, theirs[node.id]) for node in nodes)


def _room(world: World, node: Node, holdings: list[Holding]) -> NodeRoom:
    shut, ghosts = world.gpus.of(node.id), world.ghosts.of(node.id)
    used = sum((each.resources for each in (*holdings, *ghosts)), Resources())
    taken = {slot for each in (*holdings, *ghosts, *shut) for slot in each.slots}
    free_slots = tuple(slot for slot in range(node.total.gpus) if slot not in taken)
    closed = node.closed
    if not node.connected:
        closed = f"The machine {node.name} is not connected."
    elif closed is None and node.draining_ms is not None:
        closed = draining(node)
    return NodeRoom(node.id, free_slots, node.total - used, closed, tuple(each.sentence for each in (*shut, *ghosts)))


def _busy(holding: Holding, expected: Mapping[int, int]) -> Busy:
    since, pace = holding.since_ms, expected.get(holding.class_id)
    return Busy(
        run_id=holding.run_id,
        attempt=holding.attempt,
        class_id=holding.class_id,
        account_id=holding.account_id,
        node_id=holding.node_id,
        slots=holding.slots,
        resources=holding.resources,
        priority=holding.priority,
        since_ms=since,
        ends_ms=None if holding.limit_ms is None else since + holding.limit_ms,
        expected_ms=None if pace is None else since + pace,
        stopping=holding.stopping,
        preemptible=not holding.stopping,
    )


def _most_ahead(means: Mapping[int, float], holdings: Sequence[Holding]) -> int:
    """How many runs of one class there may be to grant: so many heads are looked at beside those that may start."""
    counts = Counter(holding.class_id for holding in holdings)
    return max((count * per_attempt(means[each]) for each, count in counts.items() if each in means), default=0)
