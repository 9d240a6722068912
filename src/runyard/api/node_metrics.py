"""The end-points by which nodes bring points of metrics."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Depends, Request

from runyard.api.context import Ctx, NodeWho, node_of
from runyard.api.limits import Few, Offset
from runyard.core.errors import NotFound
from runyard.engine import metrics
from runyard.engine.world import World
from runyard.ports.metrics import MetricKey

router = APIRouter(prefix="/node/metrics", include_in_schema=False, dependencies=[Depends(node_of)])


@router.put("/{run}/{attempt}/{learner}")
async def append(
    run: str, attempt: Few, learner: Few, offset: Offset, request: Request, context: Ctx, who: NodeWho
) -> dict[str, int]:
    """Append bytes of a stream of points at an offset; answers the size from which to go on."""
    chunk = await request.body()
    key = MetricKey(run, attempt, learner)
    return {"size": await asyncio.to_thread(_append, context.world, who.node_id, key, offset, chunk)}


def _append(world: World, node_id: str | None, key: MetricKey, offset: int, chunk: bytes) -> int:
    run = world.store.run(key.run_id)
    attempts = run.attempts if run is not None else ()
    if not 1 <= key.attempt <= len(attempts) or attempts[key.attempt - 1].node_id != node_id:
        raise NotFound(f"{key.run_id} has no attempt {key.attempt} on this node.")
    return metrics.take(world, key, offset, chunk)


@router.get("/{run}/{attempt}/{learner}/size")
def size(run: str, attempt: Few, learner: Few, context: Ctx) -> dict[str, int]:
    """How much of a stream is here; what a server that died had not summed up is, after this."""
    key = MetricKey(run, attempt, learner)
    metrics.sum_up(context.world, key)
    return {"size": context.world.metrics.size(key)}
