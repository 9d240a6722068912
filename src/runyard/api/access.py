"""Stored connections."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from runyard.api.asking import audited, concerns
from runyard.api.context import Ctx, Manages, Who
from runyard.core.errors import NotFound, Refused
from runyard.core.spec import Connection, StoreKind
from runyard.engine.intake import connection_context
from runyard.engine.views import iso
from runyard.ports.store import ConnectionRecord

router = APIRouter(tags=["connections"])
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
@audited("connections.add")
def add_connection(body: ConnectionBody, context: Ctx, who: Manages) -> ConnectionItem:
    """Store a connection, in the place of an older one of that name; its keys are encrypted."""
    world = context.world
    concerns(body.name)
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
@audited("connections.remove")
def remove_connection(name: str, context: Ctx, who: Manages) -> Response:
    """Forget a connection. Runs that were submitted with it keep what they need."""
    if not context.world.store.delete_connection(who.account_id, name):
        raise NotFound(f"There is no connection {name}: `runyard connections list` shows those that there are.")
    return Response(status_code=204)
