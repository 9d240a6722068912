"""Nodes come and go: what they offer, what they still hold, what they are asked again when they connect.

A node's row is read and written under ``world.orders``, so that of a stream that ends and one that begins the later
has the last word.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from runyard.core.reasons import Reason
from runyard.core.resources import Resources
from runyard.core.run import GRANT, Run, Running, Starting, StopCause, Stopping, Storing
from runyard.engine import supervise
from runyard.engine.adopting import Attempt, Slots, adopt, settle_stored
from runyard.engine.bell import DISPATCH, NODES, STAGE
from runyard.engine.commit import give_up
from runyard.engine.ghosts import Ghost, Said, is_current, was_burned
from runyard.engine.gpus import ShutGpu
from runyard.engine.orders import CannotLaunch, give_stop, known_stage, launch_request, store_request
from runyard.engine.told import Declined
from runyard.engine.world import World
from runyard.ports.store import Node

_ABSENT = "The machine came back without the run's folder."
_log = logging.getLogger(__name__)


def hello(
    world: World,
    node: Node,
    held: Sequence[Attempt],
    staged: Sequence[int],
    begun: Mapping[Attempt, Slots] = MappingProxyType({}),
    shut: Sequence[ShutGpu] = (),
    living: Collection[Attempt] | None = None,
) -> None:
    """A node introduces itself. Attempts that began there and of which it knows nothing are lost; what it was granted
    and does not hold waits for its turn again; what it has begun since a backup that the store was restored from
    (``begun``: those held that have, with their slots) is taken in. ``shut``: GPUs that it keeps back; ``living``:
    those of ``begun`` whose program may live, None: all."""
    with world.orders:
        prepared = [each for each in held if each not in begun]
        alive = {each: slots for each, slots in begun.items() if living is None or each in living}
        world.ghosts.said(node.id, Said(alive, prepared))
        world.gpus.told(node.id, shut)
        world.store.put_node(node)
        world.machines.forget()
        world.ready.connected(node.id, tuple(staged))
        known = set(held)
        _take_back(world, node.id, known)
        for run in world.store.active_runs(node.id):
            if _began(run, node.id) and (run.id, len(run.attempts)) not in known:
                supervise.lost(world, node.id, run.id, len(run.attempts), Reason.node_lost, _ABSENT)
        if world.awaited.awaits(node.id):
            settle_stored(world, node.id, known)
            adopt(world, node.id, begun)
            world.awaited.heard(world.store, node.id)
    world.bell.ring(DISPATCH, STAGE, NODES)


def _take_back(world: World, node_id: str, held: set[tuple[str, int]]) -> None:
    """Those grants that a node does not hold: their orders were lost, or it has declined them."""
    stopping = [run for run in world.store.active_runs(node_id) if run.attempts and run.attempts[-1].way == GRANT]
    told = [Declined(run.id, len(run.attempts) + 1) for run in world.store.granted_runs(node_id)]
    told += [Declined(run.id, len(run.attempts)) for run in stopping]
    supervise.take(world, node_id, [each for each in told if (each.run_id, each.attempt) not in held])


def _began(run: Run, node_id: str) -> bool:
    attempt = run.attempt
    running = isinstance(run.state, Running | Stopping)
    return running and attempt is not None and attempt.started_ms is not None and attempt.node_id == node_id


def connected(world: World, node_id: str) -> None:
    """A node's stream is open: tell it which runs are its own, have it end what it has of them and should not, and give
    it every order that still holds. The first comes first: what is launched may want the room of what is to end."""
    with world.orders:
        for node in world.store.nodes():
            if node.id == node_id:
                world.store.put_node(replace(node, connected=True, seen_ms=world.clock.now_ms()))
        runs = world.store.active_runs(node_id)
        granted = (run.id for run in world.store.granted_runs(node_id))
        own = dict.fromkeys((*(run.id for run in runs), *granted, *_with_folders(world, node_id)))
        world.executor.synced(node_id, tuple(own))
        _end_ghosts(world, node_id, own)
        for run in runs:
            try:
                _again(world, node_id, run)
            except CannotLaunch as error:
                give_up(world, run, error)
            except Exception:
                _log.exception("no order could be made for %s", run.id)
                give_up(world, run)
    world.bell.ring(DISPATCH, STAGE, NODES)


def _end_ghosts(world: World, node_id: str, own: Collection[str]) -> None:
    """See what a node has by its hello and should not: it is ordered to end it, and nothing takes its room before. What
    is of no run of its own it ends without an order."""
    said = world.ghosts.take_said(node_id)
    ids = list(dict.fromkeys(run_id for run_id, _ in (*said.living, *said.prepared)))
    runs = {run.id: run for run in world.store.runs_of(ids)} if ids else {}
    for (run_id, number), slots in said.living.items():
        run = runs.get(run_id)
        if run is not None and is_current(run, node_id, number):
            continue
        takes = Resources(len(slots)) if run is None else run.resources
        world.ghosts.found(node_id, Ghost((run_id, number), slots, takes))
        if run_id in own:
            world.executor.stop(node_id, run_id, number, StopCause.fenced, 0)
    for run_id, number in said.prepared:
        run = runs.get(run_id)
        if run is not None and run_id in own and not isinstance(run.state, Storing) and was_burned(run, number):
            world.executor.stop(node_id, run_id, number, StopCause.fenced, 0)


def _with_folders(world: World, node_id: str) -> tuple[str, ...]:
    """Waiting runs with an attempt behind them: the node keeps their checkpoints and logs."""
    return tuple(run.id for run in world.store.requeued_runs(node_id))


def _again(world: World, node_id: str, run: Run) -> None:
    state = run.state
    if run.attempt is not None and run.attempt.way == GRANT and isinstance(state, Stopping):
        give_stop(world, run)
    elif isinstance(state, Starting | Running | Stopping) and run.attempt is not None:
        try:
            world.executor.launch(launch_request(world, run, known_stage(world, run, node_id)))
        finally:
            give_stop(world, run)  # needs no secret
    elif isinstance(state, Storing):
        request = store_request(world, run)
        if request is not None:
            world.executor.store(request)


def told_of_disk(world: World, node_id: str, closed: str | None) -> None:
    """A node's disk has no room for new runs (``closed`` says why), or has some again."""
    with world.orders:
        for node in world.store.nodes():
            if node.id == node_id and node.closed != closed:
                world.store.put_node(replace(node, closed=closed))
    world.bell.ring(DISPATCH)


def told_of_gpus(world: World, node_id: str, shut: Sequence[ShutGpu]) -> None:
    """A node keeps these GPUs back from now on, and no others."""
    with world.orders:
        changed = world.gpus.told(node_id, shut)
    if changed:
        world.bell.ring(DISPATCH, NODES)


def disconnected(world: World, node_id: str, has_stream: Callable[[], bool]) -> None:
    """A node's stream has closed: nothing starts there until it is back; what runs there goes on.

    ``has_stream`` tells whether the node has connected again meanwhile: then nothing is to be noted.
    """
    with world.orders:
        for node in world.store.nodes():
            if node.id == node_id and not has_stream():
                world.store.put_node(replace(node, connected=False, seen_ms=world.clock.now_ms()))
    world.bell.ring(DISPATCH, NODES)


def note_gone(world: World) -> None:
    """Note the ends of streams that could not be noted while the store was away."""
    for node_id, has_stream in list(world.unnoted.items()):
        disconnected(world, node_id, has_stream)
        world.unnoted.pop(node_id, None)


def forget_connections(world: World) -> None:
    """The server starts: no node is connected yet."""
    for node in world.store.nodes():
        if node.connected:
            world.store.put_node(replace(node, connected=False))


def overdue(world: World, now: int, since_ms: int) -> tuple[list[Node], int | None]:
    """Nodes that were not heard of for too long, and when the next one will be (None: none is away).

    ``since_ms``: from when on somebody listened.
    """
    return away_until(world, now, lambda node: _due(world, node, since_ms))


def away_until(world: World, now: int, until: Callable[[Node], int]) -> tuple[list[Node], int | None]:
    """Nodes that are away beyond the time until which each may be, and when the next one will be (None: none is)."""
    away = [(node, until(node)) for node in world.store.nodes() if not node.connected]
    return [node for node, at in away if at <= now], min((at for _, at in away if at > now), default=None)


def _due(world: World, node: Node, since_ms: int) -> int:
    return max(node.seen_ms, since_ms) + world.rules.node_lost_after_ms


def fence(world: World, node_id: str, since_ms: int) -> int:
    """Give up the attempts of a node that is still overdue. Returns how many there were."""
    with world.orders:
        now = world.clock.now_ms()
        late, _ = overdue(world, now, since_ms)
        node = next((node for node in late if node.id == node_id), None)
        if node is None:
            return 0
        detail = f"{node.name} was last heard of {(now - node.seen_ms) // 1000} seconds before."
        return supervise.node_gone(world, node_id, detail)
