"""Tokens: made, listed, revoked."""

from __future__ import annotations

import secrets
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from runyard.api.asking import audited, concerns
from runyard.api.context import Context, Ctx, OwnTokens
from runyard.api.doorkeeper import token_digest
from runyard.api.numbers import A_NUMBER
from runyard.core.account import Principal, Right, Scope
from runyard.core.errors import AccessDenied, NotFound
from runyard.core.ids import encode
from runyard.engine.views import iso
from runyard.ports.accounts import TokenRecord

router = APIRouter(tags=["tokens"])
_DAY_MS = 86_400_000


class TokenBody(BaseModel):
    """A token to make. ``node``: the name of a machine, with scope ``node``."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(default="", max_length=100)
    scope: Literal["read", "submit", "member", "admin", "node"] = "member"
    expires_in_days: Annotated[float, Field(gt=0, le=36_500), A_NUMBER] | None = None


class NewToken(BaseModel):
    """A token, shown this once."""

    id: str
    token: str


class TokenItem(BaseModel):
    """A token as it is listed. ``used_at``: when it was last used, to about a minute."""

    id: str
    name: str
    hint: str
    scope: str
    member: str
    created_at: str | None
    expires_at: str | None
    revoked_at: str | None
    used_at: str | None


class TokenList(BaseModel):
    """The account's tokens."""

    items: list[TokenItem]


def new_token() -> str:
    """A token: a prefix that secret scanners can find, and 256 random bits."""
    return "ryd_" + secrets.token_urlsafe(32)


def make_token(
    context: Context, account_id: str, member_id: str, name: str, scope: Scope, expires_ms: int | None = None
) -> NewToken:
    """Make a token and keep its hash."""
    world = context.world
    text, token_id = new_token(), encode(world.entropy.bits(64), 10)
    world.store.add_token(
        TokenRecord(
            id=token_id,
            digest=token_digest(text),
            hint=text[:8],
            scope=scope,
            account_id=account_id,
            member_id=member_id,
            name=name,
            created_ms=world.clock.now_ms(),
            node_id=f"node-{token_id}" if scope is Scope.node else None,
            expires_ms=expires_ms,
        )
    )
    return NewToken(id=token_id, token=text)


def _whose(who: Principal) -> str | None:
    """Whose tokens are listed and revoked: all of the account by its managers, else one's own."""
    return None if who.may(Right.manage) else who.member_id


@router.get("/tokens")
def list_tokens(context: Ctx, who: OwnTokens) -> TokenList:
    """One's own tokens, for managers all of the account; of each only its first characters are known."""
    world = context.world
    names = {each.id: each.name for each in world.store.members(who.account_id)}
    return TokenList(
        items=[
            TokenItem(
                id=token.id,
                name=token.name,
                hint=token.hint,
                scope=token.scope.value,
                member=names.get(token.member_id, token.member_id),
                created_at=iso(token.created_ms),
                expires_at=iso(token.expires_ms),
                revoked_at=iso(token.revoked_ms),
                used_at=iso(token.used_ms),
            )
            for token in world.store.tokens(who.account_id, _whose(who))
        ]
    )


@router.post("/tokens", status_code=201)
@audited("tokens.add")
def add_token(body: TokenBody, context: Ctx, who: OwnTokens) -> NewToken:
    """Make a token. It is shown this once and kept only as a hash. It may do no more than the one that makes it."""
    if body.scope in ("admin", "node") and not who.may(Right.admin):
        raise AccessDenied("Only an administrator's token makes such a token.", code="forbidden")
    expires = None
    if body.expires_in_days is not None:
        expires = context.world.clock.now_ms() + int(body.expires_in_days * _DAY_MS)
    made = make_token(context, who.account_id, who.member_id, body.name, Scope(body.scope), expires)
    concerns(made.id)
    return made


@router.delete("/tokens/{id}", status_code=204)
@audited("tokens.revoke")
def revoke_token(token: Annotated[str, Path(alias="id")], context: Ctx, who: OwnTokens) -> Response:
    """Revoke a token: it is refused from now on, and streams that it opened end. Nobody revokes those that may do more
    than their own."""
    mine = {each.id: each for each in context.world.store.tokens(who.account_id, _whose(who))}
    if token in mine and mine[token].scope in (Scope.admin, Scope.node) and not who.may(Right.admin):
        raise AccessDenied("Only an administrator's token revokes this one.", code="forbidden")
    now = context.world.clock.now_ms()
    if token not in mine or not context.world.store.revoke_token(who.account_id, token, now):
        raise NotFound(f"There is no token {token}: `runyard tokens list` shows those that there are.")
    context.doorkeeper.forget()
    return Response(status_code=204)
