"""Ranges of logs and of streams of metrics of many runs, in one request.

The first line is a JSON array of ``[run, attempt, learner, stream, offset, length]``, then come the bytes of all ranges
in that order. ``stream`` is one of a run's logs, or ``metrics``. The answer is a JSON array of sizes: from where to go
on in each stream, after this range; -1 where nothing will ever be taken from this node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from runyard.api.context import Context, Ctx, NodeWho, node_of
from runyard.api.logs import STREAMS
from runyard.core.errors import RunyardError
from runyard.core.run import Run
from runyard.engine import metrics
from runyard.engine.bell import log_topic
from runyard.engine.world import World
from runyard.ports.logs import LogKey
from runyard.ports.metrics import MetricKey

router = APIRouter(prefix="/node/ranges", include_in_schema=False, dependencies=[Depends(node_of)])
METRICS: Final = "metrics"
NOWHERE: Final = -1
_Number = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
_Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class Range(msgspec.Struct, frozen=True, array_like=True):
    """Where some bytes belong, and how many they are."""

    run: str
    attempt: _Number
    learner: _Number
    stream: str
    offset: _Bytes
    length: _Bytes


_decoder = msgspec.json.Decoder(list[Range])
_Piece = tuple[Range, bytes]


@router.post("")
async def append(request: Request, context: Ctx, who: NodeWho) -> Response:
    """Append ranges; answers the size of each stream after its range."""
    sizes = await asyncio.to_thread(ranges_sent, context, who.node_id or "", await request.body())
    return Response(sizes, media_type="application/json")


def ranges_sent(context: Context, node_id: str, body: bytes) -> bytes:
    """Take the ranges of a body; answers a JSON array, as :func:`append` does."""
    return msgspec.json.encode(take(context.world, node_id, pieces_of(body)))


def pieces_of(body: bytes) -> list[_Piece]:
    """The ranges of a body, each with its bytes. Raises :class:`RunyardError`."""
    head = body.find(b"\n")
    try:
        ranges = _decoder.decode(body[:head]) if head >= 0 else None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunyardError(f"The first line is no list of ranges: {error}.", code="invalid_request") from None
    if ranges is None or len(body) - head - 1 != sum(each.length for each in ranges):
        raise RunyardError("After the line of ranges come their bytes, no more and no less.", code="invalid_request")
    pieces: list[_Piece] = []
    begin = head + 1
    for each in ranges:
        pieces.append((each, body[begin : begin + each.length]))
        begin += each.length
    return pieces


def take(world: World, node_id: str, pieces: Sequence[_Piece]) -> list[int]:
    """Keep what belongs to attempts of this node; who follows is told once."""
    runs = {run.id: run for run in world.store.runs_of(list({each.run for each, _ in pieces}))}
    own = [_is_own(each, node_id, runs) for each, _ in pieces]
    points = [
        (MetricKey(each.run, each.attempt, each.learner), each.offset, chunk)
        for (each, chunk), mine in zip(pieces, own, strict=True)
        if mine and each.stream == METRICS
    ]
    of_points = iter(metrics.take_many(world, points) if points else ())
    now = world.clock.now_ms()
    sizes: list[int] = []
    rung: set[str] = set()
    for (each, chunk), mine in zip(pieces, own, strict=True):
        if not mine:
            sizes.append(NOWHERE)
        elif each.stream == METRICS:
            sizes.append(next(of_points))
        else:
            key = LogKey(each.run, each.attempt, each.learner, each.stream)
            sizes.append(world.logs.append(key, each.offset, chunk, now))
            rung.add(log_topic(each.run))
    if rung:
        world.bell.ring(*sorted(rung))
    return sizes


def _is_own(each: Range, node_id: str, runs: Mapping[str, Run]) -> bool:
    run = runs.get(each.run)
    attempts = run.attempts if run is not None else ()
    if not 1 <= each.attempt <= len(attempts) or attempts[each.attempt - 1].node_id != node_id:
        return False
    return each.stream in STREAMS or (each.stream == METRICS and each.learner >= 1)
