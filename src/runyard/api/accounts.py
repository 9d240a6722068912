"""Accounts, their members, plans and quotas, and who did what."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from runyard.api.asking import audited, concerns
from runyard.api.context import Admin, Context, Ctx, Manages, Who
from runyard.api.limits import moment_ms, number_of
from runyard.api.numbers import A_NUMBER, Number
from runyard.api.tokens import make_token
from runyard.core.account import Account, AccountPlan, Member, Principal, Quota, Right, Role, Scope, may_grant, rights
from runyard.core.errors import AccessDenied, Conflict, NotFound, Refused
from runyard.engine import queries
from runyard.engine.views import iso

router = APIRouter(tags=["accounts"])
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
RoleName = Literal["viewer", "user", "manager", "admin"]
_Amount = Annotated[int, Field(ge=0, le=1 << 53), A_NUMBER] | None


class QuotaItem(BaseModel):
    """What may be had at once; null: no limit. CPUs in thousandths, memory in MiB, storage in bytes."""

    model_config = ConfigDict(extra="forbid")
    gpus: _Amount = None
    cpu_millis: _Amount = None
    memory_mib: _Amount = None
    waiting: _Amount = None
    storage_bytes: _Amount = None

    def own(self) -> dict[str, int | None]:
        """The parts that were named."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class AccountItem(BaseModel):
    """An account. ``quota``: by its plan and of its own together; ``own``: what is its own."""

    id: str
    name: str
    plan: str
    quota_gpus: int | None
    paused: bool
    quota: QuotaItem
    own: dict[str, int | None]


class AccountList(BaseModel):
    """Accounts that the token may see."""

    items: list[AccountItem]


class AccountBody(BaseModel):
    """An account to make; on the free plan unless told."""

    model_config = ConfigDict(extra="forbid")
    id: Name
    name: str = Field(default="", max_length=200)
    plan: str = "free"


class ChangeBody(BaseModel):
    """What is to change of an account."""

    model_config = ConfigDict(extra="forbid")
    name: str | None = Field(default=None, min_length=1, max_length=200)
    plan: str | None = None


class MemberItem(BaseModel):
    """A member of an account."""

    name: str
    role: str
    number: int


class MemberList(BaseModel):
    """The members of an account."""

    items: list[MemberItem]


class MemberBody(BaseModel):
    """A member to take in."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    role: RoleName = "user"


class RoleBody(BaseModel):
    """What a member is to be."""

    model_config = ConfigDict(extra="forbid")
    role: RoleName


class NewMember(BaseModel):
    """A member, and a token for them, shown this once."""

    name: str
    role: str
    id: str
    token: str


class PlanItem(BaseModel):
    """A plan. ``weight``: of the fair share of each account on it."""

    name: str
    weight: float
    quota: QuotaItem


class PlanBody(BaseModel):
    """A plan; what is left out of its quota has no limit."""

    model_config = ConfigDict(extra="forbid")
    weight: Number = Field(default=1.0, gt=0, le=1_000_000)
    quota: QuotaItem = QuotaItem()


class PlanList(BaseModel):
    """All plans."""

    items: list[PlanItem]


class AuditItem(BaseModel):
    """Something that somebody did or tried."""

    seq: int
    at: str | None
    account: str
    member: str
    token: str
    address: str
    action: str
    object: str
    outcome: str
    status: int


class AuditPage(BaseModel):
    """What was done, the newest first."""

    items: list[AuditItem]
    next: str | None


def _item(account: Account, quota: Quota) -> AccountItem:
    return AccountItem(
        id=account.id,
        name=account.name,
        plan=account.plan,
        quota_gpus=account.quota_gpus,
        paused=account.paused,
        quota=QuotaItem(**asdict(quota)),
        own=dict(account.own),
    )


def seen(who: Principal, account: str) -> str:
    """An account that may be looked at: one's own, for administrators any. Raises :class:`NotFound`, asking nobody."""
    if account != who.account_id and not who.may(Right.admin):
        raise NotFound(queries.no_account(account))
    return account


def _there(context: Context, who: Principal, account: str) -> Account:
    found = context.world.store.account(seen(who, account))
    if found is None:
        raise NotFound(queries.no_account(account))
    return found


def _no_member(account: str, member: str) -> NotFound:
    return NotFound(f"There is no member {member} in {account}: `runyard members list` shows those that there are.")


@router.get("/accounts")
def accounts(context: Ctx, who: Who) -> AccountList:
    """The account; for administrators all of them."""
    store = context.world.store
    if who.may(Right.admin):
        quotas = store.quotas()
        return AccountList(items=[_item(each, quotas.get(each.id, Quota())) for each in store.accounts()])
    return AccountList(items=[_item(_there(context, who, who.account_id), store.quota_of(who.account_id))])


@router.post("/accounts", status_code=201)
@audited("accounts.add")
def add_account(body: AccountBody, context: Ctx, who: Admin) -> AccountItem:
    """Make an account. Members are taken in next."""
    concerns(body.id)
    context.world.store.add_account(Account(body.id, body.name or body.id, plan=body.plan))
    return _item(_there(context, who, body.id), context.world.store.quota_of(body.id))


@router.get("/accounts/{account}")
def show_account(account: str, context: Ctx, who: Who) -> AccountItem:
    """One account; another's only for administrators."""
    return _item(_there(context, who, account), context.world.store.quota_of(account))


@router.put("/accounts/{account}")
@audited("accounts.set")
def set_account(account: str, body: ChangeBody, context: Ctx, who: Admin) -> AccountItem:
    """Give an account another name or plan."""
    if not context.world.store.change_account(account, name=body.name, plan=body.plan):
        raise NotFound(queries.no_account(account))
    return _item(_there(context, who, account), context.world.store.quota_of(account))


@router.delete("/accounts/{account}", status_code=204)
@audited("accounts.remove")
def remove_account(account: str, context: Ctx, who: Admin) -> Response:
    """Close an account: nobody of it gets in any more. Its runs, bills and stored objects stay; its name is not given
    again."""
    if account == who.account_id:
        raise Refused("This is the account that you are in: use a token of another one.")
    if not context.world.store.close_account(account, context.world.clock.now_ms()):
        raise NotFound(queries.no_account(account))
    context.doorkeeper.forget()
    return Response(status_code=204)


@router.get("/accounts/{account}/members")
def members(account: str, context: Ctx, who: Who) -> MemberList:
    """Who is in an account, and what they may do."""
    _there(context, who, account)
    return MemberList(items=[_member(each) for each in context.world.store.members(account)])


def _member(member: Member) -> MemberItem:
    return MemberItem(name=member.name, role=member.role.value, number=member.number)


@router.post("/accounts/{account}/members", status_code=201)
@audited("members.add")
def add_member(account: str, body: MemberBody, context: Ctx, who: Manages) -> NewMember:
    """Take somebody in; answers a first token for them."""
    concerns(f"{account}/{body.name}")
    _there(context, who, account)
    role = _granted(who, Role(body.role))
    member = context.world.store.add_member(account, body.name, role)
    scope = Scope.admin if role is Role.admin else Scope.member
    made = make_token(context, account, member.id, "first", scope)
    return NewMember(name=member.name, role=member.role.value, id=made.id, token=made.token)


def _granted(who: Principal, role: Role) -> Role:
    if not may_grant(rights(who.scope, who.role), role):
        raise AccessDenied(f"Nobody gives more than they have: the role {role.value} is more.", code="forbidden")
    return role


def _changeable(context: Context, who: Principal, account: str, name: str) -> None:
    _there(context, who, account)
    found = next((each for each in context.world.store.members(account) if each.name == name), None)
    if found is None:
        raise _no_member(account, name)
    if found.id == who.member_id:
        raise Conflict("This is yourself: have another manager or administrator do it.")
    _granted(who, found.role)


@router.put("/accounts/{account}/members/{member}")
@audited("members.role")
def set_role(account: str, member: str, body: RoleBody, context: Ctx, who: Manages) -> MemberItem:
    """Give a member another role; their tokens follow at once."""
    _changeable(context, who, account, member)
    if not context.world.store.set_role(account, member, _granted(who, Role(body.role))):
        raise _no_member(account, member)
    context.doorkeeper.forget()
    return next(_member(each) for each in context.world.store.members(account) if each.name == member)


@router.delete("/accounts/{account}/members/{member}", status_code=204)
@audited("members.remove")
def remove_member(account: str, member: str, context: Ctx, who: Manages) -> Response:
    """Remove a member and revoke their tokens. Their runs go on, and stay the account's."""
    _changeable(context, who, account, member)
    if not context.world.store.remove_member(account, member, context.world.clock.now_ms()):
        raise _no_member(account, member)
    context.doorkeeper.forget()
    return Response(status_code=204)


@router.get("/plans")
def plans(context: Ctx, _: Who) -> PlanList:
    """What accounts may be given."""
    return PlanList(items=[_plan(each) for each in context.world.store.plans()])


def _plan(plan: AccountPlan) -> PlanItem:
    return PlanItem(name=plan.name, weight=plan.weight, quota=QuotaItem(**asdict(plan.quota)))


@router.put("/plans/{plan}")
@audited("plans.set")
def set_plan(plan: Name, body: PlanBody, context: Ctx, _: Admin) -> PlanItem:
    """Make a plan, or change one: what its accounts may have changes with it."""
    made = AccountPlan(plan, Quota(**body.quota.model_dump()), body.weight)
    context.world.store.put_plan(made)
    return _plan(made)


@router.delete("/plans/{plan}", status_code=204)
@audited("plans.remove")
def remove_plan(plan: str, context: Ctx, _: Admin) -> Response:
    """Remove a plan that no account is on; one that comes with Runyard is as it came again."""
    if not context.world.store.delete_plan(plan):
        raise NotFound(f"There is no plan {plan} that could be removed: `runyard plans list` shows them.")
    return Response(status_code=204)


@router.get("/audit")
def audit(
    context: Ctx,
    who: Manages,
    account: str | None = None,
    since: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: str | None = None,
) -> AuditPage:
    """Who did what in the account, the newest first; for administrators in any, or in all without a name."""
    whose = seen(who, account) if account is not None else None if who.may(Right.admin) else who.account_id
    before = number_of(cursor, "The cursor is not one that a list has answered.") if cursor is not None else None
    world = context.world
    since_ms = moment_ms(since, "since") or 0
    found = world.store.audit(whose, since_ms=since_ms, before_seq=before, limit=limit)
    items = [
        AuditItem(
            seq=seq,
            at=iso(each.at_ms),
            account=each.account_id,
            member=member.name if (member := world.specs.member(each.member_id)) is not None else each.member_id,
            token=each.token_id,
            address=each.address,
            action=each.action,
            object=each.object,
            outcome=each.outcome,
            status=each.status,
        )
        for seq, each in found
    ]
    return AuditPage(items=items, next=str(found[-1][0]) if len(found) == limit else None)
