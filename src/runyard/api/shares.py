"""What part of the machines is due to an account, when its runs may start, and what it may spend."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from runyard.api.asking import audited
from runyard.api.context import Admin, Ctx
from runyard.api.numbers import A_NUMBER, Whole
from runyard.core.budget import Budget, Period
from runyard.core.errors import Refused
from runyard.core.metering import MS_PER_HOUR
from runyard.engine import quotas, shares
from runyard.engine.views import QuotaView

router = APIRouter(prefix="/quota", tags=["queue, quota, usage"])
_Text = Annotated[str, Field(min_length=1, max_length=40)]


class ShareBody(BaseModel):
    """What is named is set; null is the default: weight 1, starts at any time."""

    model_config = ConfigDict(extra="forbid")
    weight: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False), A_NUMBER] | None = None
    window: _Text | None = None


class BudgetBody(BaseModel):
    """What an account may spend in each week or month: GPU-hours, money, or both."""

    model_config = ConfigDict(extra="forbid")
    per: Literal["week", "month"]
    gpu_hours: Annotated[float, Field(ge=0, le=1_000_000_000, allow_inf_nan=False), A_NUMBER] | None = None
    money: Decimal | None = Field(default=None, ge=0, le=1_000_000_000, allow_inf_nan=False)
    warn_percent: Whole = Field(default=80, ge=1, le=100)


@router.put("/{account}/share")
@audited("shares.set")
def set_share(account: str, body: ShareBody, context: Ctx, _: Admin) -> QuotaView:
    """Set the weight of an account's due share, and the hours in which its runs may start."""
    if not body.model_fields_set:
        raise Refused("Name `weight`, `window`, or both.", code="invalid_request")
    if "window" in body.model_fields_set:
        shares.set_window(context.world, account, body.window)
    if "weight" in body.model_fields_set:
        shares.set_weight(context.world, account, body.weight)
    return quotas.quota(context.world, account)


@router.put("/{account}/budget")
@audited("budgets.set")
def set_budget(account: str, body: BudgetBody, context: Ctx, _: Admin) -> QuotaView:
    """Set what an account may spend; at the limit nothing new starts, and what runs goes on."""
    gpu_ms = None if body.gpu_hours is None else round(body.gpu_hours * MS_PER_HOUR)
    cost = None if body.money is None else round(body.money * 1_000_000)
    shares.set_budget(context.world, account, Budget(Period(body.per), gpu_ms, cost, body.warn_percent))
    return quotas.quota(context.world, account)


@router.delete("/{account}/budget")
@audited("budgets.remove")
def remove_budget(account: str, context: Ctx, _: Admin) -> QuotaView:
    """Let an account spend what it likes."""
    shares.set_budget(context.world, account, None)
    return quotas.quota(context.world, account)
