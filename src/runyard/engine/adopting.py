"""Attempts that a machine has and the store does not know: it was restored from a backup that is older than they are.

They are taken into the record as they are: the machine tells again how each began and ended, and nothing is begun a
second time. What comes from a run that the store does not know at all is ended by the machine, since that run is none
of its own any more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from runyard.core import lifecycle
from runyard.core.lifecycle import is_granted
from runyard.core.reasons import Reason
from runyard.core.run import Run, Storing, Waiting
from runyard.engine.commit import apply, change
from runyard.engine.world import World

Attempt = tuple[str, int]
"""A run and the number of its attempt."""
Slots = tuple[int, ...]

_UNSEEN: Final = "It was begun and ended after the backup that this installation was restored from."
_ENOUGH: Final = 1_000_000


def adopt(world: World, node_id: str, held: Mapping[Attempt, Slots]) -> int:
    """Take in the attempts that a machine has begun and that the store does not know; returns how many they were.
    ``held``: all that have begun there, with the slots that they have."""
    count = 0
    for (run_id, number), slots in sorted(held.items()):
        run = world.store.run(run_id)
        if run is None or not _may_be_adopted(run, number):
            continue
        while run is not None and number > len(run.attempts) + 1:
            run = _burn(world, run, node_id)
        if run is not None and _assign(world, run, node_id, slots) is not None:
            count += 1
    return count


def _may_be_adopted(run: Run, number: int) -> bool:
    return isinstance(run.state, Waiting) and not is_granted(run) and number > len(run.attempts)


def _assign(world: World, run: Run, node_id: str, slots: Slots) -> Run | None:
    now = world.clock.now_ms()
    number = len(run.attempts) + 1

    def decide(current: Run) -> lifecycle.Transition | None:
        return lifecycle.assign(current, node_id, slots, now) if _may_be_adopted(current, number) else None

    return change(world, run.id, decide)


def _burn(world: World, run: Run, node_id: str) -> Run | None:
    """An attempt between the last one known and the one that is there: it is over, and costs nothing."""
    assigned = _assign(world, run, node_id, ())
    if assigned is None:
        return None
    policy, number = replace(world.rules.retry, platform_attempts=_ENOUGH), len(assigned.attempts)
    now = world.clock.now_ms()
    return change(
        world, run.id, lambda current: lifecycle.lost(current, number, Reason.node_lost, _UNSEEN, policy, now)
    )


def settle_stored(world: World, node_id: str, held: Collection[Attempt]) -> int:
    """Runs whose results a machine was storing when the backup was made, and of which it has no folder now: it removes
    one only when it was told that the run is final, so all was stored. Returns how many they were."""
    there = {run_id for run_id, _ in held}
    now = world.clock.now_ms()
    gone = [run for run in world.store.active_runs(node_id) if isinstance(run.state, Storing) and run.id not in there]
    done = [lifecycle.stored(run, now, 0, 0) for run in gone if run.attempts]
    applied = apply(world, [each for each in done if each is not None]) if done else ()
    return sum(applied)
