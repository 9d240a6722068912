"""The end-points for nodes: hello, orders, facts, logs, and the bytes of code and embedded data."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from itertools import groupby
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from msgspec.structs import astuple

from runyard.api.context import Context, Ctx, NodeWho, guarded, node_of
from runyard.api.data import ObjectItem, ObjectPage, head_of, object_item, object_page
from runyard.api.definitions import zip_of
from runyard.api.files import Closing, receive, send
from runyard.api.limits import Few, Offset
from runyard.api.logs import STREAMS
from runyard.core.errors import NotFound, RunyardError, StoreAway
from runyard.core.idle import Quiet
from runyard.core.lifecycle import Exit
from runyard.core.reasons import Reason
from runyard.core.resources import Resources
from runyard.core.run import StopCause
from runyard.engine import nodes, stage, supervise, told
from runyard.engine.bell import log_topic, stage_topic
from runyard.engine.gpus import ShutGpu
from runyard.engine.world import World
from runyard.ports.caches import CacheContent, CachedData
from runyard.ports.environments import SpecFacts
from runyard.ports.logs import LogKey
from runyard.ports.store import Node
from runyard.wire import facts, orders

router = APIRouter(prefix="/node", include_in_schema=False, dependencies=[Depends(node_of)])
_log = logging.getLogger(__name__)
_EVIDENCE = 64 * 1024
_PHASE = 200
_LOST = frozenset({Reason.shim_lost, Reason.node_lost, Reason.machine_restarted})
_NOT_STAGED = frozenset({Reason.code_invalid, Reason.data_not_found, Reason.data_access_denied,
                         Reason.data_unreachable, Reason.environment_failed, Reason.staging_failed})  # fmt: skip
_NOT_LAUNCHED = frozenset({Reason.launch_failed, Reason.start_from_missing, Reason.environment_failed,
                           Reason.gpu_taken})  # fmt: skip
_PLATFORMS = (Reason.staging_failed, Reason.launch_failed, Reason.shim_lost)
CLOCKS_AGREE_MS = 200
"""Clocks that differ by less count as the same: a report may be under way for as long."""
_OF_SPECS = (facts.Staged, facts.StageProgress, facts.StageFailed, facts.CacheState, facts.DiskState,
             facts.GpuState)  # fmt: skip
_DETAIL = 1024
_PREPARED = "prepared"
_MAY_LIVE = frozenset({"running", "lost"})
_PING_S = 8.0
_PING = orders.encode(orders.Ping())


def _id(who: NodeWho) -> str:
    assert who.node_id is not None
    return who.node_id


@router.post("/hello")
async def hello(request: Request, context: Ctx, who: NodeWho) -> dict[str, str]:
    """A node introduces itself."""
    try:
        said = facts.decode_hello(await request.body())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunyardError(f"This is no hello: {error}.", code="invalid_request") from None
    now = context.world.clock.now_ms()
    context.world.ahead.said_hello(_id(who), now, said.clock_ms)
    node = Node(
        id=_id(who),
        name=said.name,
        boot_id=said.boot_id,
        total=Resources(len(said.gpus), said.cpu_millis, said.memory_mib),
        gpu_names=said.gpus,
        logical=said.logical,
        version=said.version,
        seen_ms=now,
        notes=said.notes,
        features=said.features,
        python=said.python,
        packages=said.packages,
        closed=said.closed[:_DETAIL] or None,
    )
    held = [(each.run, each.attempt) for each in said.held]
    begun = {(each.run, each.attempt): each.slots for each in said.held if each.state != _PREPARED}
    living = [(each.run, each.attempt) for each in said.held if each.state in _MAY_LIVE]
    await asyncio.to_thread(nodes.hello, context.world, node, held, said.staged, begun, _shut(said.shut), living)
    return {"node": node.id}


@router.get("/orders")
async def order_stream(context: Ctx, who: NodeWho) -> StreamingResponse:
    """The node's orders, a JSON object a line, for as long as it stays connected."""
    node_id = _id(who)
    return Closing(guarded(context, _orders(context, node_id)), media_type="application/x-ndjson")


async def _orders(context: Context, node_id: str) -> AsyncGenerator[bytes]:
    stream = context.links.connect(node_id)
    try:
        await asyncio.to_thread(nodes.connected, context.world, node_id)
        while True:
            lines = await stream.next(_PING_S)
            if lines is None:
                return
            yield lines or _PING
    finally:
        if context.links.disconnect(node_id, stream):
            # Not awaited: this may be the end of a cancelled task. The loop's threads outlive it.
            asyncio.get_running_loop().run_in_executor(None, _gone, context, node_id)


def _gone(context: Context, node_id: str) -> None:
    try:
        nodes.disconnected(context.world, node_id, lambda: context.links.is_connected(node_id))
    except StoreAway:
        context.world.unnoted[node_id] = partial(context.links.is_connected, node_id)
    except Exception:
        _log.exception("the end of the stream of %s could not be noted", node_id)


def take_all(world: World, node_id: str, found: Sequence[facts.Fact]) -> list[bool]:
    """Take facts in the order in which they came: those of runs that stand together as one."""
    answers: list[bool] = []
    for of_runs, group in groupby(found, lambda fact: not isinstance(fact, _OF_SPECS)):
        if of_runs:
            answers += supervise.take(world, node_id, [_told(fact) for fact in group])
        else:
            answers += [_take_of_spec(world, node_id, fact) for fact in group]
    return answers


def _take_of_spec(world: World, node_id: str, fact: facts.Fact) -> bool:
    match fact:
        case facts.Staged():
            if fact.environment:
                world.store.put_spec_facts(fact.spec, SpecFacts(environment=fact.environment))
            return stage.staged(world, node_id, fact.spec, fact.fetched)
        case facts.StageProgress():
            world.ready.report(fact.spec, fact.done, fact.total, fact.phase[:_PHASE])
            world.bell.ring(stage_topic(fact.spec))
            return True
        case facts.StageFailed():
            reason = _reason(fact.reason, _NOT_STAGED)
            return stage.failed(
                world, node_id, fact.spec, reason, fact.detail, fact.log[:_EVIDENCE], fact.model_log[:_EVIDENCE]
            )
        case facts.CacheState():
            items = tuple(CachedData(*astuple(each)) for each in fact.items)
            content = CacheContent(
                fact.size,
                fact.limit,
                items,
                fact.pins,
                fact.removed,
                fact.removed_bytes,
                fact.kinds,
                fact.free,
                fact.total,
            )
            return world.caches.heard(node_id, fact.number, content)
        case facts.DiskState():
            nodes.told_of_disk(world, node_id, fact.closed[:_DETAIL] or None)
            return True
        case facts.GpuState():
            nodes.told_of_gpus(world, node_id, _shut(fact.shut))
            return True
        case _:
            raise AssertionError(f"{fact} is not of a spec")


def _shut(found: Sequence[facts.ShutGpu]) -> list[ShutGpu]:
    return [ShutGpu(each.slots, each.sentence[:_DETAIL], each.error) for each in found]


def _told(fact: facts.Fact) -> told.Told:
    match fact:
        case facts.Began():
            return told.Began(fact.run, fact.attempt, fact.at_ms, fact.way, fact.way_note[:_DETAIL])
        case facts.Quiet():
            kind = next((each for each in Quiet if each.value == fact.kind), None)
            return told.WentQuiet(fact.run, fact.attempt, kind, fact.at_ms)
        case facts.GpuError():
            return told.GpuError(fact.run, fact.attempt, fact.detail[:_DETAIL])
        case facts.Declined():
            return told.Declined(fact.run, fact.attempt)
        case facts.Exited():
            return told.Exited(fact.run, fact.attempt, _exit(fact), _then(fact.then))
        case facts.Lost():
            return told.Lost(fact.run, fact.attempt, _reason(fact.reason, _LOST), fact.detail, _then(fact.then))
        case facts.Stored():
            return told.Stored(fact.run, fact.objects, fact.size)
        case facts.StoreFailed():
            return told.StoreFailed(fact.run, fact.detail, fact.denied, fact.lost)
        case _:
            raise AssertionError(f"{fact} is not of a run")


def _then(then: facts.Then | None) -> told.Then | None:
    return None if then is None else told.Then(then.run, then.attempt)


def _reason(word: str, known: frozenset[Reason]) -> Reason:
    """The reason that a node gives. One that this server does not know, or that does not belong there, is read as the
    platform's fault: a fact is never refused for a word."""
    found = next((reason for reason in known if reason.value == word), None)
    return found or next(reason for reason in _PLATFORMS if reason in known)


def _cause(word: str | None) -> StopCause | None:
    return next((cause for cause in StopCause if cause.value == word), None)


def _exit(fact: facts.Exited) -> Exit:
    return Exit(
        at_ms=fact.at_ms,
        exit_code=fact.exit_code,
        signal=fact.signal,
        cause=_cause(fact.cause),
        oom_kills=fact.oom_kills,
        launch_error=fact.launch_error,
        log_bytes=fact.log_bytes,
        tamper_proof=fact.tamper_proof,
        peak_memory_mib=fact.peak_memory_mib,
        launch_reason=_reason(fact.launch_reason, _NOT_LAUNCHED) if fact.launch_reason else Reason.launch_failed,
        detail=fact.detail[:_DETAIL],
        gpu_error=fact.gpu_error[:_DETAIL],
    )


@router.post("/facts")
async def take_facts(request: Request, context: Ctx, who: NodeWho) -> Response:
    """What happened on the node; False for what is stale."""
    answers = await asyncio.to_thread(facts_told, context, _id(who), await request.body())
    return Response(answers, media_type="application/json")


def facts_told(context: Context, node_id: str, body: bytes) -> bytes:
    """Take the facts of a body; answers a JSON array, as :func:`take_facts` does."""
    try:
        found, sent = facts.decode_report(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunyardError(f"These are no facts: {error}.", code="invalid_request") from None
    now = context.world.clock.now_ms()
    if sent is not None:
        context.world.ahead.tells_time(node_id, now, sent.clock_ms)
    ahead_ms = 0 if sent is None else now - sent.at_ms
    return msgspec.json.encode(take_all(context.world, node_id, by_our_clock(found, ahead_ms)))


def by_our_clock(found: Sequence[facts.Fact], ahead_ms: int) -> Sequence[facts.Fact]:
    """Facts with their times as this server's clock has them, which is so much ahead of the node's: no machine has less
    on its bill, or more, because its clock is wrong. What the way takes is no difference of clocks."""
    if abs(ahead_ms) < CLOCKS_AGREE_MS:
        return found
    return [
        msgspec.structs.replace(each, at_ms=each.at_ms + ahead_ms)
        if isinstance(each, facts.Began | facts.Exited | facts.Quiet)
        else each
        for each in found
    ]


@router.put("/logs/{run}/{attempt}/{learner}/{stream}")
async def append_log(
    run: str,
    attempt: Few,
    learner: Few,
    stream: str,
    offset: Offset,
    request: Request,
    context: Ctx,
    who: NodeWho,
) -> dict[str, int]:
    """Append log bytes at an offset; answers the size from which to go on."""
    chunk = await request.body()
    world = context.world
    key = LogKey(run, attempt, learner, stream)
    size = await asyncio.to_thread(_append, world, _id(who), key, offset, chunk)
    world.bell.ring(log_topic(run))
    return {"size": size}


def _append(world: World, node_id: str, key: LogKey, offset: int, chunk: bytes) -> int:
    if key.stream not in STREAMS:
        raise NotFound(f"There is no log stream {key.stream!r}.")
    run = world.store.run(key.run_id)
    attempts = run.attempts if run is not None else ()
    if not 1 <= key.attempt <= len(attempts) or attempts[key.attempt - 1].node_id != node_id:
        raise NotFound(f"{key.run_id} has no attempt {key.attempt} on this node.")
    return world.logs.append(key, offset, chunk, world.clock.now_ms())


@router.get("/logs/{run}/{attempt}/{learner}/{stream}/size")
def log_size(run: str, attempt: Few, learner: Few, stream: str, context: Ctx) -> dict[str, int]:
    """How much of a log is here."""
    return {"size": context.world.logs.size(LogKey(run, attempt, learner, stream))}


@router.get("/definitions/{sha256}")
def definition(sha256: str, context: Ctx) -> StreamingResponse:
    """A model definition's zip."""
    return zip_of(context, sha256)


@router.get("/data/{account}/{bucket}")
def objects(
    account: str,
    bucket: str,
    context: Ctx,
    prefix: str = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
    cursor: str = "",
) -> ObjectPage:
    """A page of an account's bucket."""
    return object_page(context, account, bucket, prefix, limit, cursor)


@router.get("/data/{account}/{bucket}/{key:path}")
def get(account: str, bucket: str, key: str, request: Request, context: Ctx) -> Response:
    """An object's bytes."""
    found = context.embedded.open(account, bucket, key)
    if found is None:
        raise NotFound(f"There is no object {key} in the bucket {bucket}.")
    return send(request, *found)


@router.head("/data/{account}/{bucket}/{key:path}")
def head(account: str, bucket: str, key: str, context: Ctx) -> Response:
    """An object's size and etag."""
    return head_of(context, account, bucket, key)


@router.put("/data/{account}/{bucket}/{key:path}", status_code=201)
async def put(account: str, bucket: str, key: str, request: Request, context: Ctx) -> ObjectItem:
    """Write an object."""
    return object_item(await receive(request, context.embedded, account, bucket, key))


@router.delete("/data/{account}/{bucket}/{key:path}", status_code=204)
def remove(account: str, bucket: str, key: str, context: Ctx) -> Response:
    """Delete an object."""
    context.embedded.delete(account, bucket, key)
    return Response(status_code=204)
