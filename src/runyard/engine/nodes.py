"""Nodes come and go: what they offer, what they still hold, what they are asked again when they connect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from runyard.core.reasons import Reason
from runyard.core.run import Run, Running, Starting, Stopping, Storing
from runyard.engine import supervise
from runyard.engine.bell import DISPATCH, NODES, STAGE
from runyard.engine.orders import give_stop, known_stage, launch_request, store_request
from runyard.engine.world import World
from runyard.ports.store import Node

_ABSENT = "The machine came back without the run's folder."


def hello(world: World, node: Node, held: Sequence[tuple[str, int]], staged: Sequence[int]) -> None:
    """A node introduces itself. Attempts that began there and of which it knows nothing are lost."""
    world.store.put_node(node)
    world.ready.connected(node.id, tuple(staged))
    known = set(held)
    for run in world.store.active_runs(node.id):
        if _began(run) and (run.id, len(run.attempts)) not in known:
            supervise.lost(world, node.id, run.id, len(run.attempts), Reason.node_lost, _ABSENT)
    world.bell.ring(DISPATCH, STAGE, NODES)


def _began(run: Run) -> bool:
    attempt = run.attempt
    running = isinstance(run.state, Running | Stopping)
    return running and attempt is not None and attempt.started_ms is not None


def connected(world: World, node_id: str) -> None:
    """A node's stream is open: give it every order that still holds, then tell it which runs are its own."""
    with world.orders:
        for node in world.store.nodes():
            if node.id == node_id:
                world.store.put_node(replace(node, connected=True, seen_ms=world.clock.now_ms()))
        runs = world.store.active_runs(node_id)
        for run in runs:
            _again(world, node_id, run)
        world.executor.synced(node_id, tuple(run.id for run in runs) + _with_folders(world, node_id))
    world.bell.ring(DISPATCH, STAGE)


def _with_folders(world: World, node_id: str) -> tuple[str, ...]:
    """Waiting runs with an attempt behind them: the node keeps their checkpoints and logs."""
    return tuple(run.id for run in world.store.requeued_runs(node_id))


def _again(world: World, node_id: str, run: Run) -> None:
    state = run.state
    if isinstance(state, Starting | Running | Stopping) and run.attempt is not None:
        stage = known_stage(run, world.specs.get(run.spec_id), node_id)
        world.executor.launch(launch_request(world, run, stage))
        give_stop(world, run)
    elif isinstance(state, Storing):
        request = store_request(world, run)
        if request is not None:
            world.executor.store(request)


def disconnected(world: World, node_id: str) -> None:
    """A node's stream has closed: nothing starts there until it is back; what runs there goes on."""
    for node in world.store.nodes():
        if node.id == node_id:
            world.store.put_node(replace(node, connected=False, seen_ms=world.clock.now_ms()))
    world.bell.ring(DISPATCH, NODES)


def forget_connections(world: World) -> None:
    """The server starts: no node is connected yet."""
    for node in world.store.nodes():
        if node.connected:
            world.store.put_node(replace(node, connected=False))


def overdue(world: World, now: int) -> tuple[list[Node], int | None]:
    """Nodes that were not heard of for too long, and when the next one will be (None: none is away)."""
    away = [node for node in world.store.nodes() if not node.connected]
    limit = world.rules.node_lost_after_ms
    late = [node for node in away if now - node.seen_ms >= limit]
    times = [node.seen_ms + limit for node in away if now - node.seen_ms < limit]
    return late, min(times, default=None)
