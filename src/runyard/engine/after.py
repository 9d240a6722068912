"""Runs that wait for other runs: they are freed when those have completed, and canceled when one never will.

What has happened is read from the events, so nothing is missed while nobody looks: a start looks at all that wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from runyard.core import lifecycle
from runyard.core.events import EventKind
from runyard.core.lifecycle import Transition
from runyard.core.run import FINAL, Run, StateName
from runyard.engine.bell import AFTER
from runyard.engine.commit import apply
from runyard.engine.world import World

_BATCH = 300
_PAGE = 500
_EVERY = 1 << 30
_TRIES = 20
TOGETHER_S: Final = 0.05
"""Runs that become final less than this after a look are looked at together."""
DELETED: Final = "deleted"
"""In the place of a state: the record is gone, and it was not that of a run that completed."""
_WORDS = {
    StateName.failed.value: "failed",
    StateName.canceled.value: "was canceled",
    DELETED: "was deleted before it completed",
}


async def turn(world: World) -> None:
    """Look after those that wait for a run whenever one is final, until cancelled."""
    with world.bell.listen(AFTER) as ear:
        seen = await asyncio.to_thread(world.store.last_seq)
        await asyncio.to_thread(look_at_all, world)
        while True:
            seen = await asyncio.to_thread(catch_up, world, seen)
            await asyncio.sleep(TOGETHER_S)
            await ear.wait()


def look_at_all(world: World) -> None:
    """Look at every run that waits for others."""
    seq = 0
    while page := world.store.blocked(seq, _BATCH):
        look_at(world, [run_id for _seq, run_id in page])
        seq = page[-1][0]


def catch_up(world: World, seen: int) -> int:
    """Look at those that wait for a run that became final after event ``seen``; returns the event to go on from."""
    newest = world.store.last_seq()
    if not world.store.blocked(0, 1):
        return max(seen, newest)  # who is submitted from here on is looked at when it was accepted
    while page := world.store.events(seen, _PAGE, kinds=frozenset({EventKind.finished})):
        seen = page[-1].seq
        ended = [recorded.event.run_id for recorded in page]
        look_at(world, world.store.dependents(ended, _EVERY))
    return max(seen, newest)


def look_at(world: World, run_ids: Sequence[str]) -> None:
    """Free or cancel those of some runs that wait for others in vain; some hundreds in one transaction."""
    for batch in _batches(run_ids):
        left: Sequence[str] = batch
        for _ in range(_TRIES):
            transitions = _decide(world, left)
            applied = apply(world, transitions) if transitions else ()
            left = [t.after.id for t, yes in zip(transitions, applied, strict=True) if not yes]
            if not left:
                break
        else:
            raise RuntimeError(f"{left[0]} changed {_TRIES} times while it was looked at")


def _batches(run_ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (run_ids[begin : begin + _BATCH] for begin in range(0, len(run_ids), _BATCH))


def _decide(world: World, run_ids: Sequence[str]) -> list[Transition]:
    runs = [run for run in world.store.runs_of(run_ids) if lifecycle.is_blocked(run)]
    waits = world.store.dependencies([run.id for run in runs])
    states = states_of(world, {each for others in waits.values() for each in others})
    now = world.clock.now_ms()
    found = (_decide_one(world, run, waits.get(run.id, ()), states, now) for run in runs)
    return [transition for transition in found if transition is not None]


def _decide_one(
    world: World, run: Run, others: Sequence[str], states: Mapping[str, str], now: int
) -> Transition | None:
    for other in others:
        if states[other] in _WORDS:
            return lifecycle.dependency_failed(run, f"{other} {_WORDS[states[other]]}.", now)
    if all(states[other] == StateName.completed for other in others):
        return lifecycle.unblocked(run, now, world.specs.get(run.spec_id).spec.options.start_after_ms)
    return None


def states_of(world: World, run_ids: Iterable[str]) -> Mapping[str, str]:
    """The state of each of these runs; :data:`DELETED` where the record is gone (but for one that had completed)."""
    asked = list(run_ids)
    states = {run.id: run.state_name.value for run in world.store.runs_of(asked)}
    return states | {each: _last_known(world, each) for each in asked if each not in states}


def _last_known(world: World, run_id: str) -> str:
    """What a run that is gone was: its events outlive it."""
    ends = world.store.events(0, _PAGE, run_id=run_id, kinds=frozenset({EventKind.finished}))
    done = any(recorded.event.body.get("state") == StateName.completed for recorded in ends)
    return StateName.completed.value if done else DELETED


def any_ended(world: World, run_ids: Sequence[str]) -> bool:
    """Whether one of these runs is final, or gone."""
    there = world.store.runs_of(run_ids)
    return len(there) < len(run_ids) or any(run.state_name in FINAL for run in there)


def sentence(world: World, run: Run) -> str:
    """What a blocked run waits for, in words."""
    others = world.store.dependencies([run.id]).get(run.id, ())
    states = states_of(world, others)
    left = [f"{other} ({states[other]})" for other in others if states[other] != StateName.completed]
    if not left:
        return "What it waited for has completed; its turn comes with the next look at the queue."
    if len(left) == 1:
        return f"Waits for {left[0]} to complete."
    shown = ", ".join(left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
    return f"Waits for {len(left)} runs to complete: {shown}."
