"""Dispatch: load a snapshot, plan, start what the plan says."""

from __future__ import annotations

import asyncio

from runyard.core import lifecycle
from runyard.core.resources import Resources
from runyard.core.scheduling.plan import Plan, make_plan
from runyard.core.scheduling.snapshot import AccountRoom, NodeRoom, Snapshot
from runyard.engine.bell import DISPATCH
from runyard.engine.commit import apply
from runyard.engine.world import World
from runyard.ports.store import Holding, Node


async def turn(world: World) -> None:
    """Start what may start whenever something changed, until cancelled."""
    with world.bell.listen(DISPATCH) as ear:
        while True:
            plan = await asyncio.to_thread(dispatch, world)
            wait_s = None
            if plan.wake_at_ms is not None:
                wait_s = max(0.001, (plan.wake_at_ms - world.clock.now_ms()) / 1000)
            await ear.wait(wait_s)


def dispatch(world: World) -> Plan:
    """Make one plan and carry it out. Returns it."""
    now = world.clock.now_ms()
    plan = make_plan(snapshot(world, now))
    transitions: list[lifecycle.Transition] = []
    for start in plan.starts:
        run = world.store.run(start.run_id)
        transition = lifecycle.assign(run, start.node_id, start.slots, now) if run is not None else None
        if transition is not None:
            transitions.append(transition)
    if transitions and not all(apply(world, transitions)):
        world.bell.ring(DISPATCH)
    return plan


def snapshot(world: World, now: int) -> Snapshot:
    """Read what a plan depends on."""
    holdings = world.store.holdings()
    nodes = [_room(node, [h for h in holdings if h.node_id == node.id]) for node in world.store.nodes()]
    heads = 1 + max((len(node.free_slots) + max(0, node.free.cpu_millis) // 500 for node in nodes), default=0)
    accounts = [
        AccountRoom(
            account.id,
            account.quota_gpus,
            sum(h.resources.gpus for h in holdings if h.account_id == account.id),
            account.paused,
        )
        for account in world.store.accounts()
    ]
    classes = tuple(world.store.classes(now, heads))
    return Snapshot(now, tuple(nodes), tuple(accounts), classes, world.store.queue_paused())


def _room(node: Node, holdings: list[Holding]) -> NodeRoom:
    used = sum((h.resources for h in holdings), Resources())
    taken = {slot for h in holdings for slot in h.slots}
    free_slots = tuple(slot for slot in range(node.total.gpus) if slot not in taken)
    closed = node.closed
    if not node.connected:
        closed = f"The machine {node.name} is not connected."
    return NodeRoom(node.id, free_slots, node.total - used, closed)
