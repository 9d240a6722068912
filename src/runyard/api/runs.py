"""Training runs: submit, list, show, cancel, delete, events, explain."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from runyard.api.asking import audited, concerns
from runyard.api.bodies import read_submission
from runyard.api.context import Changes, Context, Ctx, Submits, Who, insist_on_own
from runyard.api.limits import number_of
from runyard.api.memory import give_back
from runyard.api.numbers import Whole
from runyard.api.slow import slowly
from runyard.api.stored import insist_on_storage
from runyard.api.submitting import request_of
from runyard.core.account import Principal
from runyard.core.run import StateName
from runyard.engine import control, intake, preview, queries
from runyard.engine.preview import PreviewView
from runyard.engine.views import ExplainView, LocationView, ResourcesView, RunView, iso
from runyard.ports.store import Recorded, RunQuery

router = APIRouter(prefix="/training-runs", tags=["training runs"])


class Submitted(BaseModel):
    """Ids in the order of the parameters."""

    ids: list[str]
    replayed: bool
    notes: list[str]


class CheckAnswer(BaseModel):
    """What an object store said."""

    what: str
    verdict: str
    message: str


class Checked(BaseModel):
    """A submission examined and not accepted."""

    name: str
    command: str
    runs: int
    learners: int
    resources: ResourcesView
    results: LocationView
    notes: list[str]
    checks: list[CheckAnswer]
    preview: PreviewView


class RunPage(BaseModel):
    """A page of runs, newest first."""

    items: list[RunView]
    next: str | None


class EventItem(BaseModel):
    """One event; what else it tells depends on its kind."""

    model_config = ConfigDict(extra="allow")
    seq: int
    at: str
    kind: str
    run: str
    attempt: int | None = None


class EventPage(BaseModel):
    """Events in order."""

    items: list[EventItem]


def event_item(recorded: Recorded) -> dict[str, Any]:
    """An event as it is shown."""
    event = recorded.event
    head = {"seq": recorded.seq, "at": iso(event.at_ms), "kind": event.kind.value, "run": event.run_id}
    return dict(event.body) | head | {"attempt": event.attempt}


_BODY = {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/SubmitBody"}}}}


@router.post("", status_code=201, response_model=Submitted, openapi_extra={"requestBody": _BODY})
@audited("runs.submit", waits=False)
async def submit(
    request: Request,
    context: Ctx,
    who: Submits,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> Response:
    """Accept all runs, or none with the reason. With an ``Idempotency-Key`` a repeated request makes no second runs."""
    answer, count = await slowly(_submit, context, who, await request.body(), idempotency_key)
    give_back(count)
    return Response(answer, 201, media_type="application/json")


def _submit(context: Context, who: Principal, content: bytes, key: str | None) -> tuple[bytes, int]:
    """Read, accept and answer in a thread, since all of it takes long for very many runs: the answer, and how many."""
    body, parameters = read_submission(content)
    asked = request_of(body, parameters, key, hashlib.sha256(content).hexdigest())
    insist_on_storage(context, who.account_id)
    accepted = intake.submit(context.world, who, asked)
    concerns(", ".join(accepted.ids[:5]) + (f" and {len(accepted.ids) - 5} more" if len(accepted.ids) > 5 else ""))
    answer = {"ids": accepted.ids, "replayed": accepted.replayed, "notes": accepted.notes}
    return msgspec.json.encode(answer), len(accepted.ids)


@router.get("")
def list_runs(
    context: Ctx,
    who: Who,
    state: Annotated[list[StateName] | None, Query()] = None,
    tag: str | None = None,
    name: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: str | None = None,
) -> RunPage:
    """The account's runs, newest first."""
    before = number_of(cursor, "The cursor is not one that a list has answered.") if cursor is not None else None
    query = RunQuery(who.account_id, frozenset(state or ()), tag, name, before, limit)
    items, next_seq = queries.listing(context.world, query)
    return RunPage(items=items, next=str(next_seq) if next_seq is not None else None)


@router.get("/{run}")
def show(run: str, context: Ctx, who: Who) -> RunView:
    """One run; the id may be shortened while unique, or be ``last`` or ``last-N``."""
    return queries.show(context.world, queries.resolve(context.world, who.account_id, run))


class RunChange(BaseModel):
    """What of a waiting run can be changed."""

    model_config = ConfigDict(extra="forbid")
    priority: Whole = Field(ge=0, le=100)


@router.patch("/{run}")
@audited("runs.change")
def change(run: str, body: RunChange, context: Ctx, who: Changes) -> RunView:
    """Give a waiting run another priority."""
    found = queries.resolve(context.world, who.account_id, run)
    insist_on_own(who, found)
    changed = control.set_priority(context.world, who.account_id, found.id, body.priority)
    return queries.show(context.world, changed)


@router.post("/{run}/cancel", status_code=202)
@audited("runs.cancel", waits=False)
def cancel(run: str, context: Ctx, who: Changes) -> RunView:
    """Ask a run to stop: it is canceled once its whole process tree is gone."""
    found = queries.resolve(context.world, who.account_id, run)
    insist_on_own(who, found)
    concerns(found.id)
    return queries.show(context.world, control.cancel_known(context.world, found))


@router.delete("/{run}", status_code=204)
@audited("runs.delete")
async def delete(run: str, context: Ctx, who: Changes, with_results: bool = False) -> Response:
    """Remove the record of a final run; what is in the bucket stays, unless asked for."""

    def work() -> None:
        found = queries.resolve(context.world, who.account_id, run)
        insist_on_own(who, found)
        concerns(found.id)
        control.delete(context.world, who.account_id, found.id, with_results=with_results)

    await slowly(work)
    return Response(status_code=204)


@router.get("/{run}/events")
def events(run: str, context: Ctx, who: Who) -> EventPage:
    """What happened to a run, in order."""
    found = queries.resolve(context.world, who.account_id, run)
    recorded = context.world.store.events(0, 10_000, account_id=who.account_id, run_id=found.id)
    return EventPage(items=[EventItem(**event_item(each)) for each in recorded])


@router.get("/{run}/explain")
def explain(run: str, context: Ctx, who: Who) -> ExplainView:
    """Where a run stands, why, and what comes next."""
    return queries.explain(context.world, queries.resolve(context.world, who.account_id, run))


check_router = APIRouter(prefix="/manifests", tags=["manifests"])


def _examine(context: Context, who: Principal, content: bytes) -> tuple[intake.Checklist, PreviewView]:
    body, parameters = read_submission(content)
    examined = intake.examine(context.world, who, request_of(body, parameters))
    return examined, preview.preview(context.world, who, examined, body.definition)


@check_router.post("/check", openapi_extra={"requestBody": _BODY})
async def check(request: Request, context: Ctx, who: Submits) -> Checked:
    """Examine a submission without accepting it."""
    examined, told = await slowly(_examine, context, who, await request.body())
    resources = examined.resources
    return Checked(
        name=examined.spec.name,
        command=examined.spec.command,
        runs=len(examined.parameters),
        learners=examined.spec.request.learners,
        resources=ResourcesView(resources.gpus, resources.cpu_millis / 1000, resources.memory_mib),
        results=queries.location_view(examined.spec.results),
        notes=list(examined.notes),
        checks=[
            CheckAnswer(what=c.what, verdict=c.checked.verdict.value, message=c.checked.message)
            for c in examined.checks
        ],
        preview=told,
    )
