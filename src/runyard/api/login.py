"""Signing in with a password, for a token that lasts a working day."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from runyard.api.asking import asking, audited, concerns
from runyard.api.context import Context, Ctx, OwnTokens
from runyard.api.tokens import make_token
from runyard.core.account import Member, Principal, Right, Role, Scope, may_grant, rights
from runyard.core.errors import AccessDenied, NotFound
from runyard.engine.views import iso

router = APIRouter(tags=["accounts"])
LASTS_MS: Final = 12 * 3_600_000
_WAITERS: Final = 16
_Password = Annotated[str, Field(min_length=12, max_length=1024, repr=False)]


class LoginBody(BaseModel):
    """Who, and what proves it. ``scope``: of the token."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    account: str = Field(max_length=100)
    member: str = Field(max_length=100)
    password: str = Field(max_length=1024, repr=False)
    scope: Literal["read", "submit", "member", "admin"] = "member"


class LoggedIn(BaseModel):
    """A token, shown this once."""

    token: str
    expires_at: str | None
    account: str
    member: str
    role: str


class PasswordBody(BaseModel):
    """A new password, at least 12 characters; ``current``: the one that is to be replaced, where it is one's own."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    password: _Password
    current: str | None = Field(default=None, max_length=1024, repr=False)


async def _matches(context: Context, hashed: str | None, password: str) -> bool:
    gate = context.gate
    if gate.waiting >= _WAITERS:
        raise AccessDenied("Too many sign in at this moment: try again in some seconds.", code="too_many_tries")
    gate.waiting += 1
    try:
        async with gate.turn:
            return await asyncio.to_thread(context.passwords.matches, hashed, password)
    finally:
        gate.waiting -= 1


def insist_on_patience(context: Context, keys: tuple[str, ...], now: int) -> None:
    """That none of these has to wait. Raises :class:`AccessDenied`."""
    wait = context.gate.throttle.wait_ms(keys, now)
    if wait > 0:
        raise AccessDenied(
            f"Too many failed tries: wait {-(-wait // 1000)} seconds, then try again.", code="too_many_tries"
        )


def refuse_guesses(context: Context, keys: tuple[str, ...], now: int) -> None:
    """The same; each has begun a try now, which counts as a failure until it is told to be none."""
    insist_on_patience(context, keys, now)
    context.gate.throttle.failed(keys, now)


@router.post("/login")
@audited("login")
async def login(body: LoginBody, context: Ctx) -> LoggedIn:
    """Sign in with a password. Whether there is such an account or member, nobody learns here."""
    world, now = context.world, context.world.clock.now_ms()
    keys = (f"member {body.account}/{body.member}", f"address {asking().address}")
    found = await asyncio.to_thread(world.store.password, body.account, body.member)
    member, hashed = found if found is not None else (None, None)
    if member is not None:
        asking().who = Principal("", Scope.member, member.account_id, member.id, role=member.role)
        concerns(member.name)
    refuse_guesses(context, keys, now)
    right = await _matches(context, hashed, body.password)
    if member is None or not right:
        raise AccessDenied("This account, member and password do not belong together.", code="login_failed")
    context.gate.throttle.succeeded(keys)
    return await asyncio.to_thread(token_of, context, member, Scope(body.scope), "login", LASTS_MS)


def token_of(context: Context, member: Member, scope: Scope, name: str, lasts_ms: int) -> LoggedIn:
    """A token for a member who has proved to be one. Raises :class:`AccessDenied` for a scope beyond their role."""
    if scope is Scope.admin and member.role is not Role.admin:
        raise AccessDenied("Only members with the role admin get such a token.", code="forbidden")
    expires = context.world.clock.now_ms() + lasts_ms
    made = make_token(context, member.account_id, member.id, name, scope, expires)
    return LoggedIn(
        token=made.token,
        expires_at=iso(expires),
        account=member.account_id,
        member=member.name,
        role=member.role.value,
    )


@router.put("/accounts/{account}/members/{member}/password", status_code=204)
@audited("members.password")
async def set_password(account: str, member: str, body: PasswordBody, context: Ctx, who: OwnTokens) -> Response:
    """Set a password: one's own, or, for managers, that of a member who may do no more than they."""
    store, now = context.world.store, context.world.clock.now_ms()
    absent = NotFound(f"There is no member {member} in {account}: `runyard members list` shows those that there are.")
    if account != who.account_id and not who.may(Right.admin):
        raise absent
    found = await asyncio.to_thread(store.password, account, member)
    if found is None:
        raise absent
    there, hashed = found
    if there.id == who.member_id:
        if hashed is not None:
            refuse_guesses(context, (f"member {there.id}",), now)
            if not await _matches(context, hashed, body.current or ""):
                raise AccessDenied("The current password is another one: give it as `current`.", code="forbidden")
            context.gate.throttle.succeeded((f"member {there.id}",))
    elif not who.may(Right.manage) or not may_grant(rights(who.scope, who.role), there.role):
        raise AccessDenied("This is for the member, or for who manages the account.", code="forbidden")
    async with context.gate.turn:
        made = await asyncio.to_thread(context.passwords.hash, body.password)
    if not await asyncio.to_thread(store.set_password, account, member, made):
        raise absent
    return Response(status_code=204)
