"""The queue, quotas and usage."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from runyard.api.accounts import QuotaItem, seen
from runyard.api.asking import audited, concerns
from runyard.api.context import Admin, Changes, Context, Ctx, Manages, Who, insist_on_own
from runyard.api.limits import moment_ms
from runyard.api.numbers import Whole
from runyard.core.account import Principal, Right
from runyard.core.errors import AccessDenied
from runyard.engine import control, queries, quotas
from runyard.engine.views import QueueView, QuotaView, RunView, UsageView

router = APIRouter(tags=["queue, quota, usage"])


class PauseBody(BaseModel):
    """``all``: the whole queue, not just the account's."""

    model_config = ConfigDict(extra="forbid")
    all: StrictBool = False


class Paused(BaseModel):
    """Whether what was named is held now."""

    paused: bool


class MoveBody(BaseModel):
    """A waiting run and the position it is to have, from 1."""

    model_config = ConfigDict(extra="forbid")
    id: str
    position: Whole = Field(ge=1, le=1_000_000_000)


_Part = Literal["gpus", "cpu_millis", "memory_mib", "waiting", "storage_bytes"]


class QuotaBody(QuotaItem):
    """What the account is to have at once, in the place of its plan's; null: all that there is. ``plan``: the parts
    that are the plan's again."""

    plan: list[_Part] = Field(default_factory=list[_Part])


@router.get("/queue")
def show_queue(context: Ctx, who: Who, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> QueueView:
    """The account's waiting runs, in the order of the queue."""
    return queries.queue(context.world, who.account_id, limit)


def _pause(context: Ctx, who: Principal, body: PauseBody | None, paused: bool) -> Paused:
    everything = body is not None and body.all
    if everything and not who.may(Right.admin):
        raise AccessDenied("Holding the whole queue needs an administrator's token.", code="forbidden")
    control.pause(context.world, None if everything else who.account_id, paused)
    return Paused(paused=paused)


@router.post("/queue/pause")
@audited("queue.pause")
def pause(context: Ctx, who: Manages, body: PauseBody | None = None) -> Paused:
    """Hold the account's queue (or the whole one): nothing new starts, what runs goes on."""
    return _pause(context, who, body, True)


@router.post("/queue/resume")
@audited("queue.resume")
def resume(context: Ctx, who: Manages, body: PauseBody | None = None) -> Paused:
    """Let the queue go on."""
    return _pause(context, who, body, False)


@router.post("/queue/move")
@audited("queue.move", waits=False)
def move(body: MoveBody, context: Ctx, who: Changes) -> RunView:
    """Move a waiting run to a position among all that wait with its priority."""
    run = queries.resolve(context.world, who.account_id, body.id)
    insist_on_own(who, run)
    concerns(run.id)
    return queries.show(context.world, control.move(context.world, who.account_id, run.id, body.position))


def quota_view(context: Context, account: str) -> QuotaView:
    """An account's quota and what it has of it now. What is stored is only counted where it is limited."""
    limited = context.world.store.quota_of(account).storage_bytes is not None
    return quotas.quota(context.world, account, context.stored.bytes_of(context.embedded, account) if limited else None)


@router.get("/quota")
def own_quota(context: Ctx, who: Who) -> QuotaView:
    """The account's own quota."""
    return quota_view(context, who.account_id)


@router.get("/quota/{account}")
def quota(account: str, context: Ctx, who: Who) -> QuotaView:
    """An account's quota; another's only for administrators."""
    return quota_view(context, seen(who, account))


@router.put("/quota/{account}")
@audited("quota.set")
def set_quota(account: str, body: QuotaBody, context: Ctx, _: Admin) -> QuotaView:
    """Set an account's quota."""
    own = {key: value for key, value in body.own().items() if key != "plan"}
    control.change_quota(context.world, account, own, body.plan)
    return quota_view(context, account)


@router.get("/usage")
def usage(context: Ctx, who: Who, by: str = "account", since: str | None = None, until: str | None = None) -> UsageView:
    """The account's bill, grouped by account, user, day or tag."""
    return queries.usage(context.world, who.account_id, by, moment_ms(since, "since"), moment_ms(until, "until"))
