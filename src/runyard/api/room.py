"""What is kept and for how long, what takes the disks, and letting go what may go."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from runyard.api.asking import audited
from runyard.api.context import Admin, Context, Ctx, Who
from runyard.api.numbers import A_NUMBER, Whole
from runyard.api.slow import slowly
from runyard.core.account import Right
from runyard.core.errors import NotFound, Refused
from runyard.core.retention import Kept, Part
from runyard.engine import occupancy, room
from runyard.engine.room import DAY_MS

router = APIRouter(tags=["room"])
_TURNS = 25
"""Turns of a pass in one request: 5,000 runs are looked at."""
_TOLD = 1000
_Days = Annotated[float, Field(ge=0, le=36_500, allow_inf_nan=False), A_NUMBER]


class Ages(BaseModel):
    """Days for which each part of a run is kept after its end; null: for ever."""

    results: float | None
    logs: float | None
    metrics: float | None
    records: float | None


class RetentionView(BaseModel):
    """How long an account keeps what its runs leave behind. ``own``: the parts that are its own and not the
    installation's default."""

    account: str
    days: Ages
    own: list[str]


class RetentionBody(BaseModel):
    """Days for the parts that are named: 0 is for ever, null is the installation's default."""

    model_config = ConfigDict(extra="forbid")
    results: _Days | None = None
    logs: _Days | None = None
    metrics: _Days | None = None
    records: _Days | None = None


class DiskRow(BaseModel):
    """What one group takes."""

    group: str
    bytes: int


class NodeDiskView(BaseModel):
    """What takes a machine's disk; nothing is known where it did not answer."""

    node: str
    answered: bool
    free_bytes: int
    total_bytes: int
    items: list[DiskRow]


class DiskView(BaseModel):
    """What takes the disks, the biggest first (1,000 rows at most; ``bytes`` is the sum of all)."""

    by: str
    bytes: int
    free_bytes: int
    total_bytes: int
    items: list[DiskRow]
    nodes: list[NodeDiskView]


class GcBody(BaseModel):
    """``dry_run``: only say what would go. ``after``: go on there (``next`` of the answer before)."""

    model_config = ConfigDict(extra="forbid")
    dry_run: StrictBool = True
    after: Whole = Field(default=0, ge=0, le=1 << 53)


class Going(BaseModel):
    """What went, or would: ``account`` (empty: the installation's), ``what``, how many, and their bytes. Of a record
    its bytes in the database are not told."""

    account: str
    what: str
    count: int
    bytes: int


class GcView(BaseModel):
    """What went, or would. ``next``: where to go on, null when all was looked at."""

    dry_run: bool
    items: list[Going]
    next: int | None


@router.get("/retention/{account}")
def retention(account: str, context: Ctx, who: Who) -> RetentionView:
    """How long an account keeps what its runs leave behind."""
    if not who.may(Right.admin) and account != who.account_id:
        raise NotFound(f"There is no account {account}.")
    return _view(context, account)


@router.put("/retention/{account}")
@audited("retention.set")
def set_retention(account: str, body: RetentionBody, context: Ctx, _: Admin) -> RetentionView:
    """Set how long an account keeps what its runs leave behind."""
    changes = {
        Part(name): None if value is None else math.ceil(value * DAY_MS)
        for name, value in body.model_dump(exclude_unset=True).items()
    }
    if not changes:
        raise Refused("Name `results`, `logs`, `metrics` or `records`.", code="invalid_request")
    room.keep(context.world, account, changes)
    return _view(context, account)


def _view(context: Context, account: str) -> RetentionView:
    kept, own = room.kept_by(context.world, account)
    return RetentionView(
        account=account,
        days=Ages(**{part.value: _days(kept, part) for part in Part}),
        own=[part.value for part in Part if part in own],
    )


def _days(kept: Kept, part: Part) -> float | None:
    return kept[part] / DAY_MS if kept[part] else None


@router.get("/disk")
async def disk(context: Ctx, who: Who, by: Literal["account", "run", "kind"] = "kind") -> DiskView:
    """What takes the server's disk and the machines'; a member sees what is the own account's on the server."""
    everything = who.may(Right.admin)
    rows, space = await slowly(occupancy.server_rows, context.world, by, None if everything else who.account_id)
    nodes = await slowly(occupancy.node_disks, context.world) if everything else []
    return DiskView(
        by=by,
        bytes=sum(row.size for row in rows),
        free_bytes=space.free,
        total_bytes=space.total,
        items=[DiskRow(group=row.group, bytes=row.size) for row in rows[:_TOLD]],
        nodes=[
            NodeDiskView(
                node=each.name,
                answered=each.answered,
                free_bytes=each.free,
                total_bytes=each.total,
                items=[DiskRow(group=row.group, bytes=row.size) for row in each.kinds],
            )
            for each in nodes
        ],
    )


@router.post("/gc")
@audited("gc")
async def gc(body: GcBody, context: Ctx, _: Admin) -> GcView:
    """Let go what is kept no longer, or say what would go; a part of it, until ``next`` is null."""
    return await slowly(_gc, context, body)


def _gc(context: Context, body: GcBody) -> GcView:
    world = context.world
    sweeping = room.Pass(dry=body.dry_run, after_seq=body.after)
    more = all(sweeping.turn(world) for _ in range(_TURNS))
    items = [
        Going(account=account, what=part, count=count, bytes=sweeping.sizes[account, part])
        for (account, part), count in sorted(sweeping.runs.items())
    ]
    if not more:
        count, size = room.sweep_definitions(world, dry=body.dry_run)
        found = {"definitions": (count, size)} | {
            f"cache of {name}": told for name, told in room.sweep_caches(world, dry=body.dry_run).items()
        }
        items += [Going(account="", what=what, count=n, bytes=b) for what, (n, b) in found.items() if n]
    return GcView(dry_run=body.dry_run, items=items, next=sweeping.after_seq if more else None)
