"""The queue, quotas, usage and accounts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from runyard.api.context import Admin, Ctx, Who
from runyard.core.account import Principal, Scope
from runyard.core.errors import AccessDenied, NotFound, Refused
from runyard.engine import control, queries, quotas
from runyard.engine.views import QueueView, QuotaView, RunView, UsageView

router = APIRouter(tags=["queue, quota, usage"])


class PauseBody(BaseModel):
    """``all``: the whole queue, not just the account's."""

    model_config = ConfigDict(extra="forbid")
    all: bool = False


class Paused(BaseModel):
    """Whether what was named is held now."""

    paused: bool


class MoveBody(BaseModel):
    """A waiting run and the position it is to have, from 1."""

    model_config = ConfigDict(extra="forbid")
    id: str
    position: int = Field(ge=1, le=1_000_000_000)


class QuotaBody(BaseModel):
    """GPUs at once, null for all slots."""

    model_config = ConfigDict(extra="forbid")
    gpus: int | None = Field(ge=0, le=1_000_000)


class AccountItem(BaseModel):
    """An account."""

    id: str
    name: str
    quota_gpus: int | None
    paused: bool


class AccountList(BaseModel):
    """Accounts that the token may see."""

    items: list[AccountItem]


@router.get("/queue")
def show_queue(context: Ctx, who: Who, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> QueueView:
    """The account's waiting runs, in the order of the queue."""
    return queries.queue(context.world, who.account_id, limit)


def _pause(context: Ctx, who: Principal, body: PauseBody | None, paused: bool) -> Paused:
    everything = body is not None and body.all
    if everything and who.scope is not Scope.admin:
        raise AccessDenied("Holding the whole queue needs an administrator's token.", code="forbidden")
    control.pause(context.world, None if everything else who.account_id, paused)
    return Paused(paused=paused)


@router.post("/queue/pause")
def pause(context: Ctx, who: Who, body: PauseBody | None = None) -> Paused:
    """Hold the account's queue (or the whole one): nothing new starts, what runs goes on."""
    return _pause(context, who, body, True)


@router.post("/queue/resume")
def resume(context: Ctx, who: Who, body: PauseBody | None = None) -> Paused:
    """Let the queue go on."""
    return _pause(context, who, body, False)


@router.post("/queue/move")
def move(body: MoveBody, context: Ctx, who: Who) -> RunView:
    """Move a waiting run to a position among all that wait with its priority."""
    run = queries.resolve(context.world, who.account_id, body.id)
    return queries.show(context.world, control.move(context.world, who.account_id, run.id, body.position))


@router.get("/quota")
def own_quota(context: Ctx, who: Who) -> QuotaView:
    """The account's own quota."""
    return quotas.quota(context.world, who.account_id)


@router.get("/quota/{account}")
def quota(account: str, context: Ctx, who: Who) -> QuotaView:
    """An account's quota; another's only for administrators."""
    if account != who.account_id and who.scope is not Scope.admin:
        raise NotFound(f"There is no account {account}.")
    return quotas.quota(context.world, account)


@router.put("/quota/{account}")
def set_quota(account: str, body: QuotaBody, context: Ctx, _: Admin) -> QuotaView:
    """Set an account's quota."""
    control.set_quota(context.world, account, body.gpus)
    return quotas.quota(context.world, account)


def _moment(text: str | None, what: str) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise Refused(f"`{what}` is an ISO 8601 time, not {text!r}.", code="invalid_request") from None


@router.get("/usage")
def usage(context: Ctx, who: Who, by: str = "account", since: str | None = None, until: str | None = None) -> UsageView:
    """The account's bill, grouped by account, user, day or tag."""
    return queries.usage(context.world, who.account_id, by, _moment(since, "since"), _moment(until, "until"))


@router.get("/accounts")
def accounts(context: Ctx, who: Who) -> AccountList:
    """The account; for administrators all of them."""
    seen = [a for a in context.world.store.accounts() if who.scope is Scope.admin or a.id == who.account_id]
    return AccountList(
        items=[AccountItem(id=a.id, name=a.name, quota_gpus=a.quota_gpus, paused=a.paused) for a in seen]
    )
