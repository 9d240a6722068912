"""Turning the stations: each runs until cancelled, woken by bells; one that fails is told of and turned again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from runyard.core.errors import StoreAway
from runyard.engine import abandoned, after, dispatch, nodes, room, stage
from runyard.engine.bell import NODES
from runyard.engine.world import World

_log = logging.getLogger(__name__)


async def prepare(world: World) -> None:
    """Make a world ready for requests and stations. To be awaited before the first request is answered."""
    world.bell.attach(asyncio.get_running_loop())
    await asyncio.to_thread(nodes.forget_connections, world)
    await asyncio.to_thread(world.awaited.load, world.store, world.clock, world.rules.node_lost_after_ms)


async def turn_all(world: World) -> None:
    """Run every station until cancelled, after :func:`prepare`."""
    async with asyncio.TaskGroup() as group:
        for turn in (dispatch.turn, stage.turn, after.turn, room.turn, watch_nodes):
            group.create_task(_keep(turn, world), name=turn.__module__)


async def _keep(turn: Callable[[World], Awaitable[None]], world: World) -> None:
    while True:
        try:
            await turn(world)
        except StoreAway:
            await asyncio.sleep(0.5)  # told of once, by the store itself
        except Exception:
            _log.exception("a station failed and is turned again")
            await asyncio.sleep(1)


async def watch_nodes(world: World) -> None:
    """Fence the attempts of nodes that stay away for too long; how long they were away before this server began does
    not count, since nobody was there to hear them. Much later, end what was to be stored by them."""
    since = world.clock.now_ms()
    with world.bell.listen(NODES) as ear:
        while True:
            await asyncio.to_thread(nodes.note_gone, world)
            now = world.clock.now_ms()
            late, wake_at = await asyncio.to_thread(nodes.overdue, world, now, since)
            for node in late:
                if await asyncio.to_thread(nodes.fence, world, node.id, since):
                    _log.warning("fenced the attempts of node %s, which stayed away", node.name)
            gone, gone_at = await asyncio.to_thread(abandoned.overdue, world, now, since)
            for node in gone:
                if count := await asyncio.to_thread(abandoned.end, world, node.id, since):
                    _log.warning("%d runs had results on node %s, which did not come back", count, node.name)
            wake_at = min((at for at in (wake_at, gone_at) if at is not None), default=None)
            await ear.wait(None if wake_at is None else max(0.01, (wake_at - now) / 1000))
