"""Submissions of what a node is known to have ready: accepted as ready, so that their first runs start without asking.

For those alone that have no data to list. Decision 46 has the reasons.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from runyard.engine import wishes
from runyard.engine.bell import DISPATCH, EVENTS, STAGE
from runyard.engine.orders import warm_of
from runyard.engine.readiness import content_of
from runyard.engine.world import World
from runyard.ports.executor import StageRequest
from runyard.ports.store import Submission

MOST_AT_ONCE: Final = 1000
"""Runs of a submission that is accepted as ready: more are marked in steps, so that others write in between."""


def accept(world: World, submission: Submission) -> tuple[tuple[str, ...], bool]:
    """Accept a submission (:meth:`runyard.ports.store.Store.submit`) and wake who goes on with it."""
    node_id = node_for(world, submission)
    if node_id is None:
        accepted = world.store.submit(submission)
        world.bell.ring(STAGE, EVENTS)
        return accepted
    with world.orders:  # no plan comes between the acceptance and the order, and no hello between guess and order
        ids, replayed = world.store.submit(replace(submission, ready_on=node_id))
        if not replayed:
            _order(world, node_id, ids[0])
    world.bell.ring(DISPATCH, EVENTS)
    return ids, replayed


def node_for(world: World, submission: Submission) -> str | None:
    """The node that has told to have the same ready as a submission needs; None where none has, or more is to be asked
    first."""
    spec, environment = submission.spec, submission.environment
    if len(submission.ids) > MOST_AT_ONCE or spec.data or submission.after or environment.registry is not None:
        return None
    content = content_of(StageRequest("", 0, submission.account_id, submission.code_sha256, (), True, environment))
    if content is None:
        return None
    nodes = [
        node.id
        for node in wishes.taking(world.store.nodes(), spec, submission.resources)
        if node.draining_ms is None and world.ready.has_alike(node.id, content)
    ]
    return min(nodes, default=None)


def _order(world: World, node_id: str, run_id: str) -> None:
    """Order what a node is known to have. Where it has it no longer, the plan finds that out, and the runs are staged
    as ever."""
    run = world.store.run(run_id)
    if run is None:
        return
    spec = world.specs.get(run.spec_id)
    request = StageRequest(
        node_id,
        spec.id,
        spec.account_id,
        spec.code_sha256,
        (),
        True,
        spec.environment,
        warm_of(world, run, spec),
        guessed=True,
    )
    if world.ready.guess(node_id, spec.id, content_of(request)):
        world.executor.stage(request)
