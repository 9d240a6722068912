"""Draining a machine: nothing new starts on it; what runs there ends in its own time, or makes room at once."""

from __future__ import annotations

from runyard.core import lifecycle
from runyard.core.errors import Conflict, NotFound
from runyard.core.run import HOLDS_SLOT, StopCause
from runyard.engine.bell import DISPATCH, NODES, STAGE
from runyard.engine.commit import change
from runyard.engine.world import World
from runyard.ports.store import Node

_WHY = "Its machine is being drained."


def find(world: World, name: str) -> Node:
    """A machine by its id or its name. Raises :class:`NotFound`, and :class:`Conflict` for a name that several have."""
    nodes = world.store.nodes()
    found = [node for node in nodes if node.id == name] or [node for node in nodes if node.name == name]
    if not found:
        raise NotFound(f"There is no machine {name}: `runyard nodes list` shows those that there are.")
    if len(found) > 1:
        raise Conflict(f"{len(found)} machines are called {name}: name it by its id.")
    return found[0]


def drain(world: World, name: str, *, preempt: bool) -> Node:
    """Let nothing new start on a machine. With ``preempt`` what runs there is stopped, and waits again with its
    checkpoint. What was ready there is made ready elsewhere, where another machine may take it."""
    node = find(world, name)
    now = world.clock.now_ms()
    with world.orders:
        world.store.set_draining(node.id, now)
        if any(other.connected and other.draining_ms is None for other in world.store.nodes()):
            world.store.unstage(node.id)
        runs = [run for run in world.store.active_runs(node.id) if preempt and run.state_name in HOLDS_SLOT]
        for each in runs:
            if each.attempt is not None and each.attempt.node_id == node.id:
                change(world, each.id, lambda run: lifecycle.stop(run, StopCause.preempt, now, _WHY))
    world.bell.ring(DISPATCH, STAGE, NODES)
    return find(world, node.id)


def resume(world: World, name: str) -> Node:
    """Let runs start on a machine again, and on those of its GPUs that it keeps back for errors."""
    node = find(world, name)
    world.store.set_draining(node.id, None)
    world.executor.put_back(node.id)
    world.bell.ring(DISPATCH, STAGE, NODES)
    return find(world, node.id)
