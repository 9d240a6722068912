"""Dispatch: load a snapshot, plan, start what the plan says, and grant the next ones ahead."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from runyard.core import lifecycle
from runyard.core.lifecycle import Transition, is_granted
from runyard.core.run import Run, Running, Starting, StateName, StopCause, Waiting
from runyard.core.scheduling.ahead import Grant, Place, give_ahead, lasts_ms, promoted, to_take_back
from runyard.core.scheduling.plan import Plan, Preempt, Start, make_plan
from runyard.core.scheduling.snapshot import Snapshot
from runyard.engine import shares
from runyard.engine.bell import DISPATCH, REFILL
from runyard.engine.commit import apply
from runyard.engine.seeing import Look
from runyard.engine.world import World
from runyard.ports.store import Holding

TOGETHER_S: Final = 0.05
"""Where nodes have grants to go on with, rings that come less than this after a plan are answered by one."""
LONGEST_S: Final = 0.25
"""Where they have enough of them, the word that some were used up is answered so long after a plan, at most."""


async def turn(world: World) -> None:
    """Start what may start whenever something changed, until cancelled."""
    with world.bell.listen(DISPATCH) as urgent, world.bell.listen(DISPATCH, REFILL) as ear:
        while True:
            urgent.forget()
            ear.forget()
            plan, rest_s, opens_ms = await asyncio.to_thread(_plan_once, world)
            if rest_s > 0:
                await asyncio.sleep(TOGETHER_S)
                due_s = _due_s(world, plan, opens_ms)
                if await urgent.wait(min(LONGEST_S, rest_s - TOGETHER_S, LONGEST_S if due_s is None else due_s)):
                    continue
            await ear.wait(_due_s(world, plan, opens_ms))


def _due_s(world: World, plan: Plan, opens_ms: int | None) -> float | None:
    """How long it is until something changes by itself; None: nothing does."""
    now = world.clock.now_ms()
    wakes = [at for at in (plan.wake_at_ms, opens_ms, world.awaited.wake_at_ms(now)) if at is not None]
    return max(0.001, (min(wakes) - now) / 1000) if wakes else None


def dispatch(world: World) -> Plan:
    """Make one plan and carry it out, grants with it, in one transaction. Returns it.

    Nobody else's orders come between the look and the deed: a node that says hello meanwhile is granted nothing.
    """
    return _plan_once(world)[0]


def _plan_once(world: World) -> tuple[Plan, float, int | None]:
    """See :func:`dispatch`; and for how many seconds nodes go on by themselves before they are to be granted more (0:
    nothing is granted), and when the next budget begins anew."""
    with world.orders:
        now = world.clock.now_ms()
        world.ahead.plans(now)
        look = Look.of(world, now)
        seen = look.snapshot(world)
        plan = promoted(seen, make_plan(seen))
        world.promises.keep(plan)
        grants = give_ahead(seen, plan, _running(look.holdings), world.pace.means())
        transitions = transitions_of(world, plan, grants, now)
        world.ahead.gives({t.after.account_id for t in transitions if is_granted(t.after)})
        applied = apply(world, transitions) if transitions else ()
        _take_back(world, to_take_back(seen))
    begun = sum(yes for yes, t in zip(applied, transitions, strict=True) if t.after.state_name is StateName.starting)
    if begun < len(plan.starts) or _more_behind(seen, plan.starts, grants):
        world.bell.ring(DISPATCH)
    rest_s = lasts_ms(seen, grants, world.pace.means()) / 1000
    return plan, rest_s, shares.wakes_ms(world, now, look.parts, look.holdings)


def _take_back(world: World, run_ids: Sequence[str]) -> None:
    """Have machines give back what they were granted and have not begun. They decline it, or have begun it by then."""
    runs = world.store.runs_of(run_ids) if run_ids else ()
    for run in runs:
        node_id = run.state.granted_to if isinstance(run.state, Waiting) else None
        if node_id is not None and world.ahead.asks_back(node_id, run.id):
            world.executor.withdraw(node_id, run.id, len(run.attempts) + 1)


def _running(holdings: Sequence[Holding]) -> dict[Place, int]:
    return Counter((holding.class_id, holding.node_id) for holding in holdings)


def transitions_of(world: World, plan: Plan, grants: Sequence[Grant], now: int) -> list[Transition]:
    """What a plan and grants make of runs, as they are now."""
    ids = [each.run_id for each in (*plan.starts, *plan.preempts, *grants)]
    ids += [each.for_run_id for each in plan.preempts]
    runs = {run.id: run for run in world.store.runs_of(list(dict.fromkeys(ids)))} if ids else {}
    begun = [_begin(world, runs[start.run_id], start, now) for start in plan.starts if start.run_id in runs]
    stopped = [_make_room(runs, each, now) for each in plan.preempts if each.run_id in runs]
    granted: list[Transition | None] = []
    for grant in grants:
        run = runs.get(grant.run_id)
        if run is None or not _may_be_granted(world, run, grant.node_id):
            break  # nobody behind it may go before it
        granted.append(lifecycle.granted(run, grant.node_id, now))
    return [transition for transition in (*begun, *stopped, *granted) if transition is not None]


def _make_room(runs: Mapping[str, Run], preempt: Preempt, now: int) -> Transition | None:
    """Stop an attempt for another run; nothing where it has ended or is stopping already."""
    run = runs[preempt.run_id]
    if not isinstance(run.state, Starting | Running) or len(run.attempts) != preempt.attempt:
        return None
    return lifecycle.stop(run, StopCause.preempt, now, for_whom(run, runs.get(preempt.for_run_id)))


def for_whom(run: Run, other: Run | None) -> str:
    """Say for whom a run makes room; of another account nothing is told but that it is one."""
    if other is None or other.account_id != run.account_id:
        return "The room was borrowed, and another account that holds less than is due to it has asked for it."
    return f"{other.id}, of priority {other.priority}, was to have the room."


def _may_be_granted(world: World, run: Run, node_id: str) -> bool:
    learners = world.specs.get(run.spec_id).spec.request.learners
    return learners == 1 and world.ready.has(node_id, run.spec_id) and world.ahead.until_ms(node_id) is not None


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
