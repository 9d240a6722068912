"""What a run has stored, wherever its results go."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from runyard.api.context import Ctx, Who
from runyard.api.files import Closing
from runyard.api.slow import slowly
from runyard.core.errors import NotFound, StoreUnavailable
from runyard.core.run import Run
from runyard.core.spec import Credentials, Location
from runyard.engine import queries
from runyard.engine.orders import credentials_for, open_credentials
from runyard.engine.views import LocationView
from runyard.ports.objects import Verdict

router = APIRouter(prefix="/training-runs", tags=["results"])


class ResultItem(BaseModel):
    """One stored object, its key below the run's id."""

    key: str
    size: int


class ResultList(BaseModel):
    """What a run has stored, and where."""

    items: list[ResultItem]
    location: LocationView


def _below(context: Ctx, run: Run) -> tuple[Location, Credentials | None]:
    spec = context.world.specs.get(run.spec_id)
    location = spec.spec.results
    prefix = f"{location.prefix.rstrip('/')}/{run.id}".lstrip("/")
    return replace(location, prefix=prefix), credentials_for(open_credentials(context.world, spec), location)


@router.get("/{run}/results")
async def results(run: str, context: Ctx, who: Who) -> ResultList:
    """The objects that a run has stored."""
    return await slowly(_results, run, context, who)


def _results(run: str, context: Ctx, who: Who) -> ResultList:
    found = queries.resolve(context.world, who.account_id, run)
    location, credentials = _below(context, found)
    listing = context.world.objects.list(location, credentials, account_id=who.account_id)
    if listing.checked.verdict not in (Verdict.ok, Verdict.not_found):
        raise StoreUnavailable(listing.checked.message, code=f"store_{listing.checked.verdict.value}")
    items = [ResultItem(key=entry.key, size=entry.size) for entry in listing.entries]
    return ResultList(items=items, location=queries.location_view(location))


@router.get("/{run}/results/{key:path}", response_class=StreamingResponse)
async def result(run: str, key: str, context: Ctx, who: Who) -> StreamingResponse:
    """One stored object's bytes, passed through."""
    return await slowly(_result, run, key, context, who)


def _result(run: str, key: str, context: Ctx, who: Who) -> Closing:
    found = queries.resolve(context.world, who.account_id, run)
    location, credentials = _below(context, found)
    opened = context.world.objects.read(location, credentials, key, account_id=who.account_id)
    if opened is None:
        raise NotFound(f"{found.id} has stored no {key}.")
    size, chunks = opened
    return Closing(chunks, headers={"Content-Length": str(size)}, media_type="application/octet-stream")
