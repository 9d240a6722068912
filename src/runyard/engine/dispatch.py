"""Dispatch: load a snapshot, plan, start what the plan says, and grant the next ones ahead."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from runyard.core import lifecycle
from runyard.core.lifecycle import Transition, is_granted
from runyard.core.resources import Resources
from runyard.core.run import Run, Waiting
from runyard.core.scheduling.ahead import Grant, Place, give_ahead, per_attempt
from runyard.core.scheduling.plan import Plan, Start, make_plan
from runyard.core.scheduling.snapshot import AccountRoom, NodeRoom, Snapshot
from runyard.engine.bell import DISPATCH
from runyard.engine.commit import apply
from runyard.engine.world import World
from runyard.ports.store import Holding, Node

TOGETHER_S: Final = 0.02
"""Where nodes have grants to go on with, rings that come less than this after a plan are answered by one."""


async def turn(world: World) -> None:
    """Start what may start whenever something changed, until cancelled."""
    with world.bell.listen(DISPATCH) as ear:
        while True:
            plan, ahead = await asyncio.to_thread(_plan_once, world)
            if ahead:
                await asyncio.sleep(TOGETHER_S)
            wait_s = None
            if plan.wake_at_ms is not None:
                wait_s = max(0.001, (plan.wake_at_ms - world.clock.now_ms()) / 1000)
            await ear.wait(wait_s)


def dispatch(world: World) -> Plan:
    """Make one plan and carry it out, grants with it, in one transaction. Returns it.

    Nobody else's orders come between the look and the deed: a node that says hello meanwhile is granted nothing.
    """
    return _plan_once(world)[0]


def _plan_once(world: World) -> tuple[Plan, bool]:
    """See :func:`dispatch`; and whether there are grants that nodes may begin by themselves."""
    with world.orders:
        now = world.clock.now_ms()
        holdings = world.store.holdings()
        seen = _snapshot(world, now, holdings)
        plan = make_plan(seen)
        grants = give_ahead(seen, plan, _running(holdings), world.pace.means())
        transitions = _transitions(world, plan.starts, grants, now)
        applied = apply(world, transitions) if transitions else ()
    begun = sum(yes for yes, t in zip(applied, transitions, strict=True) if not is_granted(t.after))
    if begun < len(plan.starts) or _more_behind(seen, plan.starts, grants):
        world.bell.ring(DISPATCH)
    return plan, bool(grants) or any(head.granted for each in seen.classes for head in each.heads)


def _transitions(world: World, starts: Sequence[Start], grants: Sequence[Grant], now: int) -> list[Transition]:
    ids = [*(start.run_id for start in starts), *(grant.run_id for grant in grants)]
    runs = {run.id: run for run in world.store.runs_of(ids)} if ids else {}
    begun = [_begin(world, runs[start.run_id], start, now) for start in starts if start.run_id in runs]
    granted: list[Transition | None] = []
    for grant in grants:
        run = runs.get(grant.run_id)
        if run is None or not _may_be_granted(world, run, grant.node_id):
            break  # nobody behind it may go before it
        granted.append(lifecycle.granted(run, grant.node_id, now))
    return [transition for transition in (*begun, *granted) if transition is not None]


def _may_be_granted(world: World, run: Run, node_id: str) -> bool:
    learners = world.specs.get(run.spec_id).spec.request.learners
    return learners == 1 and world.ready.has(node_id, run.spec_id)


def _begin(world: World, run: Run, start: Start, now: int) -> Transition | None:
    """What a start makes of a run. A machine that no longer has its code and data fetches them again first."""
    waits = isinstance(run.state, Waiting) and not is_granted(run)
    if waits and not world.ready.has(start.node_id, run.spec_id):
        return Transition(run, replace(run, ready_on=None, staged_ms=None, version=run.version + 1), ())
    return lifecycle.assign(run, start.node_id, start.slots, now)


def _more_behind(seen: Snapshot, starts: Sequence[Start], grants: Sequence[Grant]) -> bool:
    """Whether all heads of a class start or are granted: those behind them have not been looked at."""
    gone = {each.run_id for each in (*starts, *grants)}
    fresh = [[head.run_id in gone for head in each.heads if not head.granted] for each in seen.classes]
    return any(each and all(each) for each in fresh)


def snapshot(world: World, now: int) -> Snapshot:
    """Read what a plan depends on."""
    return _snapshot(world, now, world.store.holdings())


def _snapshot(world: World, now: int, holdings: Sequence[Holding]) -> Snapshot:
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
    depth = heads + _most_ahead(world, holdings)
    classes = tuple(world.store.classes(now, depth))
    return Snapshot(now, tuple(nodes), tuple(accounts), classes, world.store.queue_paused(), depth)


def _running(holdings: Sequence[Holding]) -> dict[Place, int]:
    return Counter((holding.class_id, holding.node_id) for holding in holdings)


def _most_ahead(world: World, holdings: Sequence[Holding]) -> int:
    """How many runs of one class there may be to grant: so many heads are looked at beside those that may start."""
    means = world.pace.means()
    counts = Counter(holding.class_id for holding in holdings)
    return max((count * per_attempt(means[each]) for each, count in counts.items() if each in means), default=0)


def _room(node: Node, holdings: list[Holding]) -> NodeRoom:
    used = sum((h.resources for h in holdings), Resources())
    taken = {slot for h in holdings for slot in h.slots}
    free_slots = tuple(slot for slot in range(node.total.gpus) if slot not in taken)
    closed = node.closed
    if not node.connected:
        closed = f"The machine {node.name} is not connected."
    return NodeRoom(node.id, free_slots, node.total - used, closed)
