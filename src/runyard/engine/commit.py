"""Deciding and applying: the one place where transitions become durable, billed, ordered and told."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from runyard.core import lifecycle
from runyard.core.lifecycle import Transition, is_granted
from runyard.core.metering import LedgerEntry, settle
from runyard.core.reasons import Reason
from runyard.core.run import FINAL, HOLDS_SLOT, Run, Starting, StateName, Storing
from runyard.engine.bell import AFTER, DISPATCH, EVENTS, NODES, REFILL, STAGE, log_topic
from runyard.engine.orders import CannotLaunch, direct
from runyard.engine.shares import held_of
from runyard.engine.world import World

_TRIES = 20
_NO_ORDER = "The server could not make the order for the machine; its log says why."
_log = logging.getLogger(__name__)


def change(
    world: World, run_id: str, decide: Callable[[Run], Transition | None], known: Run | None = None
) -> Run | None:
    """Load a run (unless it is ``known``), decide, apply under the guard of its version; again when somebody else was
    faster.

    Returns the run after the change, None when there was nothing to change (or no such run).
    """
    for _ in range(_TRIES):
        run, known = known or world.store.run(run_id), None
        transition = decide(run) if run is not None else None
        if transition is None:
            return None
        if apply(world, (transition,))[0]:
            return transition.after
    raise RuntimeError(f"{run_id} changed {_TRIES} times while one change was tried")


def apply(world: World, transitions: Sequence[Transition], *, whole: bool = False) -> tuple[bool, ...]:
    """Apply transitions with their ledger entries in one transaction; then give the orders and ring the bells. With
    ``whole`` all of them or none.

    Nobody else's orders come between the two: a node gets its orders in the order of the commits.
    """
    stuck: list[tuple[Run, CannotLaunch | None]] = []
    with world.orders:
        ledger, held = ledger_of(world, transitions), held_of(world, transitions)
        applied = world.store.apply(transitions, ledger, whole=whole, held=held)
        done = [transition for transition, yes in zip(transitions, applied, strict=True) if yes]
        for transition in done:
            try:
                direct(world, transition)
            except CannotLaunch as error:
                stuck.append((transition.after, error))
            except Exception:
                _log.exception("no order could be made for %s", transition.after.id)
                stuck.append((transition.after, None))
    for transition in done:
        _note_pace(world, transition)
    world.bell.ring(*_topics(done))
    for run, why in stuck:
        give_up(world, run, why)
    return applied


def give_up(world: World, run: Run, why: CannotLaunch | None = None) -> None:
    """No order can be made for a run (its secrets cannot be opened, say): that is its own trouble and nobody else's.

    An attempt that has not begun ends, by the platform's fault unless ``why`` says otherwise; a failed try at storing
    is noted; a program that runs goes on.
    """
    now = world.clock.now_ms()
    attempts = len(run.attempts)
    reason, detail = (Reason.launch_failed, _NO_ORDER) if why is None else (why.reason, why.detail)

    def decide(current: Run) -> Transition | None:
        if len(current.attempts) != attempts:
            return None
        if isinstance(current.state, Starting) or is_granted(current):
            number = len(current.attempts) + is_granted(current)
            return lifecycle.lost(current, number, reason, detail, world.rules.retry, now)
        if isinstance(current.state, Storing):
            return lifecycle.store_failed(current, _NO_ORDER, now, denied=False)
        return None

    change(world, run.id, decide)


def ledger_of(world: World, transitions: Sequence[Transition]) -> list[LedgerEntry]:
    """The ledger entries of those transitions that released a slot."""
    return [settle(t.after, t.settled, world.rules.price) for t in transitions if t.settled is not None]


def _note_pace(world: World, transition: Transition) -> None:
    ended = transition.settled
    if ended is not None and ended.started_ms is not None and ended.released_ms is not None:
        world.pace.note(transition.after.class_id, ended.released_ms - ended.assigned_ms)


def _topics(done: Sequence[Transition]) -> list[str]:
    topics = {EVENTS} if done else set[str]()
    freed: Counter[int] = Counter()
    for transition in done:
        topics.add(log_topic(transition.after.id))
        before, after = transition.before.state_name, transition.after.state_name
        freed[transition.after.class_id] += (before in HOLDS_SLOT) - (after in HOLDS_SLOT)
        if after is StateName.waiting and not is_granted(transition.after):
            topics.add(DISPATCH)
        elif before in HOLDS_SLOT and after not in HOLDS_SLOT:
            topics.add(REFILL)
        if after in FINAL:
            topics.add(AFTER)
        if before is StateName.waiting and after is StateName.storing:
            topics.add(NODES)  # whose it is to store may be away for good
        if after is StateName.waiting and transition.after.ready_on is None:
            topics.add(STAGE)
    if any(room > 0 for room in freed.values()):  # else whoever ended has made room for one of its class
        topics.add(DISPATCH)
    return sorted(topics)
