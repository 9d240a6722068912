"""What nodes report becomes what runs are."""

from __future__ import annotations

from dataclasses import replace

from runyard.core import lifecycle
from runyard.core.lifecycle import Command, Exit, Transition
from runyard.core.reasons import Reason
from runyard.core.run import FINAL, HOLDS_SLOT, Run, Storing
from runyard.engine.bell import DISPATCH, EVENTS, STAGE
from runyard.engine.commit import change
from runyard.engine.orders import any_node
from runyard.engine.world import World


def _owns(run: Run, node_id: str, attempt: int) -> bool:
    latest = run.attempt
    return latest is not None and latest.number == attempt and latest.node_id == node_id


def _holds(run: Run, node_id: str, attempt: int) -> bool:
    return run.state_name in HOLDS_SLOT and _owns(run, node_id, attempt)


def _stores(run: Run, node_id: str) -> bool:
    """Whether a node is the one that a run's results are stored by."""
    return isinstance(run.state, Storing) and node_id == (
        run.attempt.node_id if run.attempt is not None else run.ready_on or node_id
    )


def began(world: World, node_id: str, run_id: str, attempt: int, at_ms: int, way: str = "", way_note: str = "") -> bool:
    """The program runs. False when the attempt is fenced."""
    now = world.clock.now_ms()

    def decide(run: Run) -> Transition | None:
        return lifecycle.begun(run, attempt, at_ms, now, way, way_note) if _owns(run, node_id, attempt) else None

    change(world, run_id, decide)
    return is_current(world, node_id, run_id, attempt)


def exited(world: World, node_id: str, run_id: str, attempt: int, record: Exit) -> bool:
    """The program is gone. False when the attempt is fenced."""
    now = world.clock.now_ms()
    run = world.store.run(run_id)
    if run is not None and record.launch_error is not None and _holds(run, node_id, attempt):
        world.ready.discard(node_id, run.spec_id)
    change(
        world,
        run_id,
        lambda run: _after_exit(world, run, attempt, record, now) if _owns(run, node_id, attempt) else None,
    )
    return is_current(world, node_id, run_id, attempt)


def _after_exit(world: World, run: Run, attempt: int, record: Exit, now: int) -> lifecycle.Transition | None:
    transition = lifecycle.ended(run, attempt, record, world.rules.retry, now)
    if transition is None or record.launch_error is None:
        return transition
    return replace(transition, after=replace(transition.after, ready_on=None))  # what it lacked is fetched again


def lost(world: World, node_id: str, run_id: str, attempt: int, reason: Reason, detail: str) -> bool:
    """The attempt left no exit record. False when it is fenced."""
    now = world.clock.now_ms()
    policy = world.rules.retry
    change(
        world,
        run_id,
        lambda run: lifecycle.lost(run, attempt, reason, detail, policy, now) if _owns(run, node_id, attempt) else None,
    )
    return is_current(world, node_id, run_id, attempt)


def is_current(world: World, node_id: str, run_id: str, attempt: int) -> bool:
    """Whether a node still has to care for an attempt: the latest of a run that is not final."""
    run = world.store.run(run_id)
    return run is not None and run.state_name not in FINAL and _owns(run, node_id, attempt)


def stored(world: World, node_id: str, run_id: str, objects: int, size: int) -> bool:
    """Everything is in the bucket. False when the run is not this node's to store."""
    now = world.clock.now_ms()

    def decide(run: Run) -> Transition | None:
        return lifecycle.stored(run, now, objects, size) if _stores(run, node_id) else None

    return change(world, run_id, decide) is not None


def store_failed(world: World, node_id: str, run_id: str, detail: str, *, denied: bool) -> bool:
    """A try at storing failed; the node goes on trying. False when the run is not this node's to store."""
    now = world.clock.now_ms()

    def decide(run: Run) -> Transition | None:
        return lifecycle.store_failed(run, detail, now, denied=denied) if _stores(run, node_id) else None

    return change(world, run_id, decide) is not None


def node_gone(world: World, node_id: str, detail: str) -> int:
    """A node was not heard of for too long: its attempts are fenced, what it was to make ready is asked of others, and
    evidence that the server has is stored by another node. Returns how many attempts there were.

    Results that lie on the node are waited for: nobody else has them.
    """
    now = world.clock.now_ms()
    policy = world.rules.retry
    count = 0
    for run in world.store.active_runs(node_id):
        number = run.attempt.number if run.attempt is not None else 0
        if change(world, run.id, lambda r, n=number: lifecycle.lost(r, n, Reason.node_lost, detail, policy, now)):
            count += 1
        change(world, run.id, lambda r: _moved_evidence(world, r, node_id))
    world.ready.gone(node_id)
    world.store.unstage(node_id)
    world.bell.ring(DISPATCH, STAGE, EVENTS)
    return count


def _moved_evidence(world: World, run: Run, node_id: str) -> Transition | None:
    other = any_node(world)
    if other is None or run.attempts or run.ready_on != node_id or not isinstance(run.state, Storing):
        return None
    return Transition(run, replace(run, ready_on=other, version=run.version + 1), (), (Command.store,))
