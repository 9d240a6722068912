"""The embedded object store, and what runs have left in any store."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from runyard.api.asking import audited
from runyard.api.context import Changes, Ctx, Submits, Who
from runyard.api.files import receive, send
from runyard.api.stored import insist_on_storage
from runyard.core.errors import NotFound
from runyard.engine.views import iso
from runyard.ports.embedded import StoredObject

router = APIRouter(prefix="/data", tags=["embedded store"])


class BucketItem(BaseModel):
    """A bucket."""

    name: str


class BucketList(BaseModel):
    """The account's buckets."""

    items: list[BucketItem]


class ObjectItem(BaseModel):
    """An object of a bucket."""

    key: str
    size: int
    etag: str
    modified_at: str | None


class ObjectPage(BaseModel):
    """A page of objects, sorted by key."""

    items: list[ObjectItem]
    next: str | None


def object_item(found: StoredObject) -> ObjectItem:
    """An object as it is shown."""
    return ObjectItem(key=found.key, size=found.size, etag=found.etag, modified_at=iso(found.modified_ms))


def object_page(context: Ctx, account: str, bucket: str, prefix: str, limit: int, cursor: str) -> ObjectPage:
    """A page of a bucket of an account."""
    found = context.embedded.list(account, bucket, prefix=prefix, after=cursor, limit=limit)
    if found is None:
        raise NotFound(f"There is no bucket {bucket}: `runyard data ls` shows those that there are.")
    items = [object_item(each) for each in found]
    return ObjectPage(items=items, next=items[-1].key if len(items) == limit else None)


@router.get("")
def buckets(context: Ctx, who: Who) -> BucketList:
    """The account's buckets."""
    return BucketList(items=[BucketItem(name=name) for name in context.embedded.buckets(who.account_id)])


@router.get("/{bucket}")
def objects(
    bucket: str,
    context: Ctx,
    who: Who,
    prefix: str = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
    cursor: str = "",
) -> ObjectPage:
    """A page of a bucket's objects."""
    return object_page(context, who.account_id, bucket, prefix, limit, cursor)


@router.delete("/{bucket}", status_code=204)
@audited("data.delete")
def remove_all(bucket: str, context: Ctx, who: Changes, prefix: str = "") -> Response:
    """Delete the objects below a prefix; without one the bucket too."""
    count = context.embedded.delete_prefix(who.account_id, bucket, prefix)
    context.stored.forget(who.account_id)
    return Response(status_code=204, headers={"Runyard-Deleted": str(count)})


@router.put("/{bucket}/{key:path}", status_code=201)
@audited("data.put", waits=False)
async def put(bucket: str, key: str, request: Request, context: Ctx, who: Submits) -> ObjectItem:
    """Write one object (the body); the bucket is made when it is not there."""
    length = request.headers.get("content-length", "")
    more = int(length) if length.isdigit() and len(length) <= 18 else 0
    await asyncio.to_thread(insist_on_storage, context, who.account_id, more)
    item = object_item(await receive(request, context.embedded, who.account_id, bucket, key))
    context.stored.add(who.account_id, item.size)
    return item


@router.get("/{bucket}/{key:path}", response_class=Response)
def get(bucket: str, key: str, request: Request, context: Ctx, who: Who) -> Response:
    """One object's bytes; takes ``Range`` and ``If-Match``."""
    found = context.embedded.open(who.account_id, bucket, key)
    if found is None:
        raise NotFound(f"There is no object {key} in the bucket {bucket}.")
    return send(request, *found)


@router.head("/{bucket}/{key:path}", response_class=Response)
def head(bucket: str, key: str, context: Ctx, who: Who) -> Response:
    """One object's size and etag."""
    return head_of(context, who.account_id, bucket, key)


def head_of(context: Ctx, account: str, bucket: str, key: str) -> Response:
    """Size and etag of an object, 404 without one."""
    found = context.embedded.head(account, bucket, key)
    if found is None:
        raise NotFound(f"There is no object {key} in the bucket {bucket}.")
    return Response(headers={"Content-Length": str(found.size), "ETag": f'"{found.etag}"'})


@router.delete("/{bucket}/{key:path}", status_code=204)
@audited("data.delete", waits=False)
async def remove(bucket: str, key: str, context: Ctx, who: Changes) -> Response:
    """Delete one object."""
    if not await asyncio.to_thread(context.embedded.delete, who.account_id, bucket, key):
        raise NotFound(f"There is no object {key} in the bucket {bucket}.")
    context.stored.forget(who.account_id)
    return Response(status_code=204)
