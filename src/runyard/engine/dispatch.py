"""Dispatch: load a snapshot, plan, start what the plan says."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

from runyard.core import lifecycle
from runyard.core.lifecycle import Transition
from runyard.core.resources import Resources
from runyard.core.run import Waiting
from runyard.core.scheduling.plan import Plan, Start, make_plan
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
    seen = snapshot(world, now)
    plan = make_plan(seen)
    found = [_begin(world, start, now) for start in plan.starts]
    transitions = [transition for transition in found if transition is not None]
    all_applied = all(apply(world, transitions)) if transitions else not plan.starts
    if not all_applied or _more_behind(seen, plan):
        world.bell.ring(DISPATCH)
    return plan


def _begin(world: World, start: Start, now: int) -> Transition | None:
    """What a start makes of a run. A machine that no longer has its code and data fetches them again first."""
    run = world.store.run(start.run_id)
    if run is None:
        return None
    if isinstance(run.state, Waiting) and not world.ready.has(start.node_id, run.spec_id):
        return Transition(run, replace(run, ready_on=None, staged_ms=None, version=run.version + 1), ())
    return lifecycle.assign(run, start.node_id, start.slots, now)


def _more_behind(seen: Snapshot, plan: Plan) -> bool:
    """Whether all heads of a class start: those behind them have not been looked at."""
    started = Counter(start.class_id for start in plan.starts)
    return any(each.heads and started[each.id] == len(each.heads) for each in seen.classes)


def snapshot(world: World, now: int) -> Snapshot:
    """Read what a plan depends on."""
    holdings = world.store.holdings()
    nodes = [_room(node, [h for h in holdings if h.node_id == node.id]) for node in world.store.nodes()]
    heads = 1 + sum(len(node.free_slots) + max(0, node.free.cpu_millis) // 500 for node in nodes)
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
