"""The machines: looking at them, draining them."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, StrictBool

from runyard.api.asking import audited
from runyard.api.context import Admin, Ctx, Who
from runyard.engine import draining
from runyard.engine.views import NodeView, iso
from runyard.engine.world import World
from runyard.ports.store import Node

router = APIRouter(prefix="/nodes", tags=["machines"])


class NodeItem(BaseModel):
    """A machine, how many attempts it has, and since when it is being drained (null: it is not)."""

    node: NodeView
    running: int
    draining_since: str | None


class NodeList(BaseModel):
    """All machines."""

    items: list[NodeItem]


class DrainBody(BaseModel):
    """``preempt``: what runs there is stopped too, and waits again with its checkpoint."""

    model_config = ConfigDict(extra="forbid")
    preempt: StrictBool = False


def view(world: World, node: Node) -> NodeView:
    """A machine as it is shown."""
    now = world.clock.now_ms()
    return NodeView(
        id=node.id,
        name=node.name,
        connected=node.connected,
        gpus=node.gpu_names,
        logical_gpus=node.logical,
        cpus=node.total.cpu_millis / 1000,
        memory_mib=node.total.memory_mib,
        version=node.version,
        seen_at=iso(now if node.connected else node.seen_ms),
        closed=node.closed,
        notes=node.notes,
        features=node.features,
        shut_gpus=tuple(each.sentence for each in world.gpus.of(node.id)),
    )


def _item(context: Ctx, node: Node) -> NodeItem:
    world = context.world
    running = sum(holding.node_id == node.id for holding in world.store.holdings())
    since = iso(node.draining_ms)
    return NodeItem(node=view(world, node), running=running, draining_since=since)


@router.get("")
def nodes(context: Ctx, _: Who) -> NodeList:
    """All machines, by id."""
    return NodeList(items=[_item(context, node) for node in context.world.store.nodes()])


@router.post("/{node}/drain")
@audited("nodes.drain")
def drain(node: str, context: Ctx, _: Admin, body: DrainBody | None = None) -> NodeItem:
    """Let nothing new start on a machine (its id or name): what runs goes on, or makes room."""
    preempt = body is not None and body.preempt
    return _item(context, draining.drain(context.world, node, preempt=preempt))


@router.post("/{node}/resume")
@audited("nodes.resume")
def resume(node: str, context: Ctx, _: Admin) -> NodeItem:
    """Let runs start on a machine again, and on GPUs that it keeps back for errors."""
    return _item(context, draining.resume(context.world, node))
