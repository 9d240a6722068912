"""Canceling many training runs in one request."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from runyard.api.asking import audited, concerns
from runyard.api.bodies import read_body
from runyard.api.context import Changes, Ctx, not_own
from runyard.api.memory import give_back
from runyard.core.account import Principal, Right
from runyard.core.errors import NotFound, RunyardError
from runyard.core.ids import is_run_id
from runyard.core.run import FINAL, StateName
from runyard.engine import control, queries
from runyard.engine.world import World
from runyard.ports.store import RunQuery

router = APIRouter(prefix="/training-runs", tags=["training runs"])
_LIVE = frozenset(StateName) - FINAL
_TAG = "tag:"


class CancelBody(BaseModel):
    """``runs``: ids, beginnings of ids, ``last``, ``last-N``, or ``tag:NAME`` for all with a tag that are not final.
    ``states``: also every run of the account in one of these states."""

    model_config = ConfigDict(extra="forbid")
    runs: list[str] = Field(default_factory=list[str], max_length=250_000)
    states: list[StateName] = Field(default_factory=list[StateName])


class _Sent(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The same as it comes: what is no such list ends the reading before it fills the memory."""

    runs: list[str] = []  # msgspec copies defaults
    states: list[str] = []


_decoder: Final = msgspec.json.Decoder(_Sent)


class CanceledItem(BaseModel):
    """A run that was asked to stop (or was final before), as it is now."""

    id: str
    state: str
    sentence: str


class RefusedItem(BaseModel):
    """What was named and is not to be canceled."""

    id: str
    code: str
    message: str


class Canceled(BaseModel):
    """All runs that were named, each once."""

    items: list[CanceledItem]
    refused: list[RefusedItem]


_BODY = {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/CancelBody"}}}}


@router.post("/cancel", status_code=202, response_model=Canceled, openapi_extra={"requestBody": _BODY})
@audited("runs.cancel", waits=False)
async def cancel(request: Request, context: Ctx, who: Changes) -> Response:
    """Ask many runs to stop: each is canceled once its whole process tree is gone."""
    answer, count = await asyncio.to_thread(_cancel, context.world, who, await request.body())
    give_back(count)
    return Response(answer, 202, media_type="application/json")


def _cancel(world: World, who: Principal, content: bytes) -> tuple[bytes, int]:
    """The answer, encoded here (there may be a quarter of a million items), and how many it has."""
    body = read_body(_decoder, CancelBody, content)
    account_id = who.account_id
    ids: dict[str, None] = {}
    refused: list[RefusedItem] = []
    for named in body.runs:
        try:
            ids |= dict.fromkeys(_named(world, account_id, named))
        except RunyardError as error:
            refused.append(RefusedItem(id=named, code=error.code, message=error.message))
    if body.states:
        ids |= dict.fromkeys(control.live_ids(world, account_id, frozenset(body.states)))
    others = _others(world, who, list(ids))
    refused += [RefusedItem(id=each, code="access_denied", message=not_own(each)) for each in others]
    for each in others:
        del ids[each]
    concerns(", ".join(list(ids)[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else ""))
    runs = control.cancel_many(world, account_id, list(ids))
    there = {run.id for run in runs}
    absent = [run_id for run_id in ids if run_id not in there]
    refused += [RefusedItem(id=each, code="not_found", message=queries.absent(each)) for each in absent]
    items = [{"id": run.id, "state": run.state_name.value, "sentence": run.sentence} for run in runs]
    return msgspec.json.encode({"items": items, "refused": [each.model_dump() for each in refused]}), len(ids)


def _others(world: World, who: Principal, ids: list[str]) -> list[str]:
    """Those that are runs of other members of the account, where that matters."""
    if who.may(Right.manage):
        return []
    found = world.store.runs_of(ids)
    return [run.id for run in found if run.account_id == who.account_id and run.member_id != who.member_id]


def _named(world: World, account_id: str, named: str) -> list[str]:
    if named.startswith(_TAG):
        tag = named.removeprefix(_TAG)
        found = control.live_ids(world, account_id, _LIVE, tag)
        if not found and not world.store.runs(RunQuery(account_id, tag=tag, limit=1)):
            raise NotFound(f"No run carries the tag {tag!r}: `runyard list` shows tags.")
        return found
    return [named if is_run_id(named) else queries.resolve(world, account_id, named).id]
