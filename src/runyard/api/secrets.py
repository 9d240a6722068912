"""Stored secrets: put, listed by name, removed. A value that was put is never shown again."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, HTTPException, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from runyard.api.asking import audited
from runyard.api.context import Admin, Ctx, Manages, Who
from runyard.api.slow import slowly
from runyard.core.errors import NotFound, Refused
from runyard.engine import rotation
from runyard.engine.orders import secret_context
from runyard.engine.views import iso
from runyard.manifest import variable_name
from runyard.ports.secrets import SecretRecord

router = APIRouter(tags=["secrets"])
LONGEST: Final = 64 * 1024
"""Bytes of a value: Linux gives a variable 128 KiB, its name included (execve(2), MAX_ARG_STRLEN)."""
MOST: Final = 1000


def _name(name: Annotated[str, Path(max_length=128)]) -> str:
    """Of a secret: ``rotate-key`` is the address of another method, and no variable's name."""
    if name == "rotate-key":
        raise HTTPException(405)
    return name


_Name = Annotated[str, Depends(_name)]


class SecretBody(BaseModel):
    """A secret's value."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    value: str = Field(repr=False)


class SecretItem(BaseModel):
    """A stored secret: its name, and since when its value is this one."""

    name: str
    created_at: str | None


class SecretList(BaseModel):
    """The account's secrets."""

    items: list[SecretItem]


@router.get("/secrets")
def list_secrets(context: Ctx, who: Who) -> SecretList:
    """The names of the account's secrets."""
    records = context.world.store.secrets(who.account_id)
    return SecretList(items=[SecretItem(name=each.name, created_at=iso(each.created_ms)) for each in records])


class Rotated(BaseModel):
    """How many sealed texts were sealed again."""

    resealed: int


@router.post("/secrets/rotate-key")
@audited("secrets.rotate-key")
async def rotate_key(context: Ctx, _: Admin) -> Rotated:
    """Seal all that the installation keeps sealed with a new key. Broken off, it goes on where it was."""
    return Rotated(resealed=await slowly(rotation.rotate, context.world))


@router.put("/secrets/{name}")
@audited("secrets.put")
def put_secret(name: _Name, body: SecretBody, context: Ctx, who: Manages) -> SecretItem:
    """Store a secret, encrypted, in the place of an older one of that name. Programs get it under its name."""
    if (wrong := variable_name(name)) is not None:
        raise Refused(f"{name!r} {wrong}", code="invalid_request")
    world = context.world
    value = _checked(body.value)
    known = [each.name for each in world.store.secrets(who.account_id)]
    if name not in known and len(known) >= MOST:
        raise Refused(f"An account keeps at most {MOST} secrets: remove one first (`runyard secrets rm NAME`).")
    sealed = world.vault.seal(value, secret_context(who.account_id, name))
    record = SecretRecord(who.account_id, name, world.clock.now_ms(), sealed)
    world.store.put_secret(record)
    return SecretItem(name=name, created_at=iso(record.created_ms))


def _checked(value: str) -> bytes:
    try:
        plain = value.encode()
    except UnicodeEncodeError:
        raise Refused("The value holds half characters (surrogates): send UTF-8.", code="invalid_request") from None
    if not plain or b"\0" in plain or len(plain) > LONGEST:
        raise Refused(
            f"A secret's value has 1 to {LONGEST} bytes and no NUL: it becomes an environment variable.",
            code="invalid_request",
        )
    return plain


@router.delete("/secrets/{name}", status_code=204)
@audited("secrets.remove")
def remove_secret(name: _Name, context: Ctx, who: Manages) -> Response:
    """Forget a secret. Runs that name it and have not begun fail when their turn comes."""
    if not context.world.store.delete_secret(who.account_id, name):
        raise NotFound(f"There is no secret {name}: `runyard secrets list` shows those that there are.")
    return Response(status_code=204)
