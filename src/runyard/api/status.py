"""What the installation is and does, and the templates of manifests."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from runyard.api.context import Ctx, Who, member_of
from runyard.api.nodes import view
from runyard.core.errors import Refused
from runyard.engine.views import NodeView, SlotsView, iso
from runyard.manifest import generate, schema

router = APIRouter(tags=["installation"])


class Status(BaseModel):
    """The installation at a glance. ``counts``: the account's runs by state."""

    version: str
    url: str
    started_at: str | None
    account: str
    member: str
    role: str
    scope: str
    nodes: list[NodeView]
    slots: SlotsView
    counts: dict[str, int]
    queue_paused: bool


@router.get("/status")
def status(context: Ctx, who: Who) -> Status:
    """Version, machines, slots, and how many runs are in each state."""
    store = context.world.store
    nodes, holdings, member = store.nodes(), store.holdings(), store.member(who.member_id)
    return Status(
        version=context.version,
        url=context.url,
        started_at=iso(context.started_ms),
        account=who.account_id,
        member=member.name if member is not None else who.member_id,
        role=who.role.value,
        scope=who.scope.value,
        nodes=[view(context.world, node) for node in nodes],
        slots=SlotsView(
            total=sum(node.total.gpus for node in nodes if node.connected),
            used=sum(len(holding.slots) for holding in holdings),
        ),
        counts={state.value: count for state, count in store.counts(who.account_id).items()},
        queue_paused=store.queue_paused(),
    )


@router.get("/manifests/template", response_class=PlainTextResponse, dependencies=[Depends(member_of)])
def template(kind: str = "training-runs") -> str:
    """A commented manifest to start from."""
    try:
        return generate(kind)
    except ValueError as error:
        raise Refused(str(error), code="invalid_request") from None


@router.get("/manifests/schema", dependencies=[Depends(member_of)])
def manifest_schema() -> dict[str, object]:
    """JSON Schema of a manifest in either dialect."""
    return dict(schema())
