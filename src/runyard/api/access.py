"""Stored connections and tokens."""

from __future__ import annotations

import json
import secrets
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from runyard.api.context import Ctx, Who, token_digest
from runyard.core.account import Scope
from runyard.core.errors import AccessDenied, NotFound, Refused
from runyard.core.ids import encode
from runyard.core.spec import Connection, StoreKind
from runyard.engine.intake import connection_context
from runyard.engine.views import iso
from runyard.ports.store import ConnectionRecord, TokenRecord

router = APIRouter(tags=["connections and tokens"])
_DAY_MS = 86_400_000
_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class ConnectionBody(BaseModel):
    """A connection to store under a name."""

    model_config = ConfigDict(extra="forbid")
    name: _Name
    type: Literal["s3", "local", "volume"] = "s3"
    endpoint_url: str | None = None
    region: str | None = None
    path: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = Field(default=None, repr=False)
    session_token: str | None = Field(default=None, repr=False)


class ConnectionItem(BaseModel):
    """A stored connection; of its keys only the first characters of the public one are shown."""

    name: str
    type: str
    endpoint_url: str | None
    region: str | None
    path: str | None
    access_key_id: str | None
    created_at: str | None


class ConnectionList(BaseModel):
    """The account's connections."""

    items: list[ConnectionItem]


class TokenBody(BaseModel):
    """A token to make. ``node``: the name of a machine, with scope ``node``."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(default="", max_length=100)
    scope: Literal["member", "admin", "node"] = "member"
    expires_in_days: float | None = Field(default=None, gt=0, le=36_500)


class NewToken(BaseModel):
    """A token, shown this once."""

    id: str
    token: str


class TokenItem(BaseModel):
    """A token as it is listed."""

    id: str
    name: str
    hint: str
    scope: str
    created_at: str | None
    expires_at: str | None
    revoked_at: str | None


class TokenList(BaseModel):
    """The account's tokens."""

    items: list[TokenItem]


def masked(key: str) -> str:
    """The first four characters of an access key."""
    return key[:4] + "****"


def _item(context: Ctx, record: ConnectionRecord) -> ConnectionItem:
    key = None
    if record.sealed is not None:
        try:
            plain = context.world.vault.open(record.sealed, connection_context(record.account_id, record.name))
            key = masked(json.loads(plain)[0])
        except ValueError:
            key = "(sealed with a key that is not here: add the connection again)"
    connection = record.connection
    return ConnectionItem(
        name=record.name,
        type=record.kind.value,
        endpoint_url=connection.endpoint_url,
        region=connection.region,
        path=connection.path,
        access_key_id=key,
        created_at=iso(record.created_ms),
    )


@router.get("/connections")
def list_connections(context: Ctx, who: Who) -> ConnectionList:
    """Stored connections, secrets masked."""
    return ConnectionList(items=[_item(context, each) for each in context.world.store.connections(who.account_id)])


@router.post("/connections", status_code=201)
def add_connection(body: ConnectionBody, context: Ctx, who: Who) -> ConnectionItem:
    """Store a connection, in the place of an older one of that name; its keys are encrypted."""
    world = context.world
    sealed = None
    if body.access_key_id is not None or body.secret_access_key is not None:
        if not body.access_key_id or not body.secret_access_key:
            raise Refused(
                "A connection has both access_key_id and secret_access_key, or neither.", code="invalid_request"
            )
        plain = json.dumps([body.access_key_id, body.secret_access_key, body.session_token])
        sealed = world.vault.seal(plain.encode(), connection_context(who.account_id, body.name))
    record = ConnectionRecord(
        who.account_id,
        body.name,
        StoreKind(body.type),
        Connection(endpoint_url=body.endpoint_url, region=body.region, path=body.path),
        world.clock.now_ms(),
        sealed,
    )
    world.store.put_connection(record)
    return _item(context, record)


@router.delete("/connections/{name}", status_code=204)
def remove_connection(name: str, context: Ctx, who: Who) -> Response:
    """Forget a connection. Runs that were submitted with it keep what they need."""
    if not context.world.store.delete_connection(who.account_id, name):
        raise NotFound(f"There is no connection {name}: `runyard connections list` shows those that there are.")
    return Response(status_code=204)


@router.get("/tokens")
def list_tokens(context: Ctx, who: Who) -> TokenList:
    """The account's tokens; of each only its first characters are known."""
    return TokenList(
        items=[
            TokenItem(
                id=token.id,
                name=token.name,
                hint=token.hint,
                scope=token.scope.value,
                created_at=iso(token.created_ms),
                expires_at=iso(token.expires_ms),
                revoked_at=iso(token.revoked_ms),
            )
            for token in context.world.store.tokens(who.account_id)
        ]
    )


@router.post("/tokens", status_code=201)
def add_token(body: TokenBody, context: Ctx, who: Who) -> NewToken:
    """Make a token. It is shown this once and kept only as a hash."""
    if body.scope != "member" and who.scope is not Scope.admin:
        raise AccessDenied("Only an administrator's token makes such a token.", code="forbidden")
    world = context.world
    text, token_id = new_token(), encode(world.entropy.bits(64), 10)
    now = world.clock.now_ms()
    world.store.add_token(
        TokenRecord(
            id=token_id,
            digest=token_digest(text),
            hint=text[:8],
            scope=Scope(body.scope),
            account_id=who.account_id,
            member_id=who.member_id,
            name=body.name,
            created_ms=now,
            node_id=f"node-{token_id}" if body.scope == "node" else None,
            expires_ms=now + int(body.expires_in_days * _DAY_MS) if body.expires_in_days is not None else None,
        )
    )
    return NewToken(id=token_id, token=text)


def new_token() -> str:
    """A token: a prefix that secret scanners can find, and 256 random bits."""
    return "ryd_" + secrets.token_urlsafe(32)


@router.delete("/tokens/{token}", status_code=204)
def revoke_token(token: str, context: Ctx, who: Who) -> Response:
    """Revoke a token: it is refused from now on. Those of administrators and machines only administrators revoke."""
    mine = {each.id: each for each in context.world.store.tokens(who.account_id)}
    if token in mine and mine[token].scope is not Scope.member and who.scope is not Scope.admin:
        raise AccessDenied("Only an administrator's token revokes this one.", code="forbidden")
    if not context.world.store.revoke_token(who.account_id, token, context.world.clock.now_ms()):
        raise NotFound(f"There is no token {token}: `runyard tokens list` shows those that there are.")
    context.doorkeeper.forget()
    return Response(status_code=204)
