"""The caches of data on the machines: what is there, what is to stay, what may go."""

from __future__ import annotations

import asyncio
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from runyard.api.asking import audited
from runyard.api.context import Admin, Context, Ctx, Who
from runyard.api.slow import slowly
from runyard.core.account import Principal, Right
from runyard.core.errors import RunyardError
from runyard.engine.views import iso
from runyard.ports.caches import CacheAction, CacheContent, CachedData
from runyard.ports.store import Node
from runyard.stores.errors import StoreError
from runyard.stores.keys import check_bucket

router = APIRouter(prefix="/cache", tags=["data cache"])


class CacheBody(BaseModel):
    """``pin`` and ``unpin`` need a bucket; ``clear`` takes one, or all."""

    model_config = ConfigDict(extra="forbid")
    action: Literal["pin", "unpin", "clear"]
    bucket: str | None = None


class CacheItem(BaseModel):
    """A listing of a bucket that a machine has; ``bytes`` of all its objects, ``own_bytes`` counted for it alone."""

    kind: str
    address: str
    bucket: str
    prefix: str
    objects: int
    bytes: int
    own_bytes: int
    last_used_at: str | None
    pinned: bool
    in_use: bool


class CacheNode(BaseModel):
    """One machine's cache; ``bytes``: of what may be seen. ``answered`` is false where the machine is away,
    and nothing else is known then."""

    node: str
    answered: bool
    bytes: int = 0
    limit_bytes: int = 0
    items: list[CacheItem] = []
    pins: list[str] = []
    removed: int = 0


class CacheList(BaseModel):
    """The caches of all machines."""

    nodes: list[CacheNode]


@router.get("")
async def caches(context: Ctx, who: Who) -> CacheList:
    """What the machines hold: an administrator sees all of it, a member what the own account has had fetched."""
    return await _ask(context, who, CacheAction.tell, "")


@router.post("")
@audited("cache.change")
async def change(body: CacheBody, context: Ctx, who: Admin) -> CacheList:
    """Pin a bucket, let it go, or remove what nothing uses; answers with what is there afterwards."""
    if body.bucket is None and body.action != "clear":
        raise RunyardError(f"Name the bucket to {body.action}.", code="invalid_request")
    try:
        bucket = check_bucket(body.bucket) if body.bucket is not None else ""
    except StoreError as error:
        raise RunyardError(error.message, code="invalid_request") from None
    return await _ask(context, who, CacheAction(body.action), bucket)


async def _ask(context: Context, who: Principal, action: CacheAction, bucket: str) -> CacheList:
    world = context.world
    nodes = await asyncio.to_thread(world.store.nodes)
    connected = [node.id for node in nodes if node.connected]
    answers = await slowly(world.caches.ask, world.executor, connected, action, bucket)
    return CacheList(nodes=[_node(node, answers.get(node.id), who) for node in sorted(nodes, key=lambda n: n.name)])


def _node(node: Node, content: CacheContent | None, who: Principal) -> CacheNode:
    if content is None:
        return CacheNode(node=node.name, answered=False)
    everything = who.may(Right.admin)
    items = [_item(each) for each in content.items if everything or each.account == who.account_id]
    return CacheNode(
        node=node.name,
        answered=True,
        bytes=content.size if everything else sum(each.own_bytes for each in items),
        limit_bytes=content.limit,
        items=items,
        pins=list(content.pins) if everything else [],
        removed=content.removed,
    )


def _item(each: CachedData) -> CacheItem:
    return CacheItem(
        kind=each.kind,
        address=each.address,
        bucket=each.bucket,
        prefix=each.prefix,
        objects=each.objects,
        bytes=each.size,
        own_bytes=each.own,
        last_used_at=iso(each.used_ms),
        pinned=each.pinned,
        in_use=each.in_use,
    )
