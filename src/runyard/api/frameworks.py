"""Frameworks: those known by name, and those that the account has registered."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from runyard.api.asking import audited, concerns
from runyard.api.context import Ctx, Manages, Who
from runyard.api.slow import slowly
from runyard.engine import frameworks
from runyard.engine.views import iso
from runyard.ports.environments import FrameworkRecord

router = APIRouter(tags=["frameworks"])
_Name = Annotated[str, Path(max_length=64)]


class FrameworkBody(BaseModel):
    """A framework to register: for a name, and a version or (empty) any, either an existing environment of the machines
    (``python``, a path or name), or another framework to take (``instead``, ``NAME:VERSION``)."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=64)
    version: str = Field(default="", max_length=64)
    python: str | None = Field(default=None, min_length=1, max_length=4096)
    instead: str | None = Field(default=None, min_length=1, max_length=130)


class RegisteredItem(BaseModel):
    """A registered framework."""

    name: str
    version: str
    python: str | None
    instead: str | None
    created_at: str | None


class KnownItem(BaseModel):
    """A framework known by name. ``installed``: the versions in the machines' own interpreters, for which nothing is
    built."""

    name: str
    distribution: str
    aliases: list[str]
    installed: list[str]


class FrameworkList(BaseModel):
    """The frameworks that manifests may name."""

    known: list[KnownItem]
    registered: list[RegisteredItem]


class VersionList(BaseModel):
    """The versions of a framework on the package index, newest first; null: it cannot be asked."""

    name: str
    versions: list[str] | None


def _item(record: FrameworkRecord) -> RegisteredItem:
    return RegisteredItem(
        name=record.name,
        version=record.version,
        python=record.python,
        instead=record.instead,
        created_at=iso(record.created_ms),
    )


@router.get("/frameworks")
def list_frameworks(context: Ctx, who: Who) -> FrameworkList:
    """Frameworks known by name, with the versions that the machines have, and those that the account registered."""
    known = [
        KnownItem(
            name=each.name,
            distribution=each.distribution,
            aliases=list(each.aliases),
            installed=list(each.installed),
        )
        for each in frameworks.known(context.world)
    ]
    registered = [_item(each) for each in context.world.store.frameworks(who.account_id)]
    return FrameworkList(known=known, registered=registered)


@router.get("/frameworks/{name}/versions")
async def list_versions(name: _Name, context: Ctx, _who: Who) -> VersionList:
    """The versions of a known framework that the package index has for the machines' Python. May take seconds."""
    found = await slowly(frameworks.versions, context.world, name)
    return VersionList(name=name, versions=None if found is None else list(found))


@router.post("/frameworks", status_code=201)
@audited("frameworks.add")
def add_framework(body: FrameworkBody, context: Ctx, who: Manages) -> RegisteredItem:
    """Register a framework, in the place of an older registration of that name and version."""
    world = context.world
    concerns(body.name)
    record = FrameworkRecord(
        who.account_id, body.name, body.version, world.clock.now_ms(), python=body.python, instead=body.instead
    )
    frameworks.register(world, record)
    return _item(record)


@router.delete("/frameworks/{name}", status_code=204)
@audited("frameworks.remove")
def remove_framework(
    name: _Name, context: Ctx, who: Manages, version: Annotated[str, Query(max_length=64)] = ""
) -> Response:
    """Forget a registration. Runs that were submitted with it keep what they need."""
    frameworks.forget(context.world, who.account_id, name, version)
    return Response(status_code=204)
