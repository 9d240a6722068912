"""What would become of a submission: when its first run would start, what its runs would cost, what is at hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from runyard.core.account import Principal
from runyard.core.metering import cost
from runyard.core.run import Run, Waiting
from runyard.core.scheduling.explain import READINESS, estimate_ms
from runyard.core.scheduling.plan import Plan, Wait, make_plan
from runyard.core.scheduling.snapshot import Head, QueueClass
from runyard.engine.intake import Checklist
from runyard.engine.seeing import Look
from runyard.engine.views import iso, money
from runyard.engine.world import World
from runyard.ports.store import Node

_ID: Final = "preview"
_LAST: Final = 1 << 62
_LOOKED_AT: Final = 200


@dataclass(frozen=True, slots=True)
class PreviewView:
    """``machine``: on which the first run would start, None where none is connected that can take it. ``ahead``: runs
    that stand before it. ``starts``: ``now`` (once it is staged) or ``later``, then ``readiness`` and ``sentence`` say
    why. ``earliest`` and ``latest``: when, as far as it can be told. Costs are of all runs together, by the time that
    runs of the account take (``cost_expected``) and by their time limit (``cost_most``). The last three: whether a
    machine has code, data and environment of an earlier submission (its data may have changed since)."""

    machine: str | None
    ahead: int
    starts: str
    readiness: str | None
    sentence: str
    earliest: str | None
    latest: str | None
    cost_expected: str | None
    cost_most: str | None
    code_at_hand: bool
    data_at_hand: bool
    environment_at_hand: bool


def preview(world: World, who: Principal, examined: Checklist, code_sha256: str | None) -> PreviewView:
    """Look at a submission that was examined as if it were the last in the queue now. Nothing is kept."""
    look = Look.of(world, world.clock.now_ms())
    node = _machine(look, examined)
    ahead = world.store.ahead_of(_last(who, examined))
    typical = world.store.typical_duration_ms(-1, who.account_id)
    no, earliest, latest = _when(world, who, examined, look, node, ahead, typical)
    code, data, environment = _at_hand(world, who, examined, code_sha256, look)
    limit, runs = examined.spec.options.max_runtime_ms, len(examined.parameters)
    return PreviewView(
        machine=None if node is None else node.name,
        ahead=ahead,
        starts="now" if no is None else "later",
        readiness=None if no is None else READINESS[no[0]],
        sentence="Its first run would start as soon as it is staged." if no is None else no[1],
        earliest=iso(earliest),
        latest=iso(latest),
        cost_expected=None if typical is None else _cost(world, examined, typical, runs),
        cost_most=None if limit is None else _cost(world, examined, limit, runs),
        code_at_hand=code,
        data_at_hand=data,
        environment_at_hand=environment,
    )


def _cost(world: World, examined: Checklist, duration_ms: int, runs: int) -> str:
    return money(runs * cost(examined.resources, duration_ms, world.rules.price))


def _machine(look: Look, examined: Checklist) -> Node | None:
    """The machine that would take it: of those that can, one that is not drained, and has most room."""
    held = {node.id: sum(h.resources.gpus for h in look.holdings if h.node_id == node.id) for node in look.nodes}
    able = [node for node in look.nodes if node.connected and examined.resources.fits_in(node.total)]
    return min(able, key=lambda n: (n.draining_ms is not None, held[n.id] - n.total.gpus, n.id), default=None)


def _last(who: Principal, examined: Checklist) -> Run:
    """The submission's first run, as it would stand behind all others of its priority."""
    return Run(
        id=_ID,
        seq=0,
        account_id=who.account_id,
        member_id=who.member_id,
        name="",
        spec_id=-1,
        parameters="{}",
        class_id=-1,
        resources=examined.resources,
        priority=examined.spec.options.priority,
        rank=_LAST,
        state=Waiting(),
        version=0,
        created_ms=0,
    )


def _when(
    world: World,
    who: Principal,
    examined: Checklist,
    look: Look,
    node: Node | None,
    ahead: int,
    typical_ms: int | None,
) -> tuple[tuple[Wait, str] | None, int | None, int | None]:
    """Why it would wait (None: it would not), and when it would start: at the earliest, and at the latest."""
    if examined.after:
        return (Wait.after, "It waits for other runs to complete."), None, None
    if node is None:
        return (Wait.node_closed, "No machine that is large enough is connected."), None, None
    now = look.now_ms
    plan = _plan(world, who, examined, look, node.id)
    if any(start.run_id == _ID for start in plan.starts):
        return None, now, now
    slots = node.total.gpus // max(1, examined.resources.gpus)
    wait = estimate_ms(ahead=ahead, slots=slots, typical_ms=typical_ms)
    opens = max(now, examined.spec.options.start_after_ms or 0)
    reservation = plan.reservations.get(_ID)
    no = plan.heads.get(_ID, (Wait.behind, "Its turn comes after those that are ahead of it."))
    return no, None if wait is None else max(opens, now + wait), None if reservation is None else reservation.at_ms


def _plan(world: World, who: Principal, examined: Checklist, look: Look, node_id: str) -> Plan:
    """The plan that would be made now with the run in the queue."""
    seen = look.snapshot(world)
    options = examined.spec.options
    opens = options.start_after_ms or 0
    head = Head(_ID, _LAST, node_id, limit_ms=options.max_runtime_ms, opens_ms=opens)
    extra = QueueClass(-1, who.account_id, options.priority, examined.resources, (head,))
    return make_plan(replace(seen, classes=(*seen.classes, extra)))


def _at_hand(
    world: World, who: Principal, examined: Checklist, code_sha256: str | None, look: Look
) -> tuple[bool, bool, bool]:
    """Whether a machine has the code, the data and the environment ready, of what was submitted of late."""
    code, data, environment = code_sha256 is None, not examined.spec.data, False
    for node in look.nodes:
        for spec_id in world.ready.newest(node.id, _LOOKED_AT) if node.connected else ():
            stored = world.specs.get(spec_id)
            if stored.account_id == who.account_id:
                code = code or stored.code_sha256 == code_sha256
                data = data or stored.spec.data == examined.spec.data
                environment = environment or stored.environment == examined.environment
    return code, data, environment
