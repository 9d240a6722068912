"""Staging: code and data become ready on a node while the runs wait. Once for all runs of a submission."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from runyard.core import lifecycle
from runyard.core.lifecycle import RetryPolicy
from runyard.core.reasons import Reason
from runyard.core.spec import Location, StoreKind
from runyard.engine.bell import DISPATCH, EVENTS, STAGE
from runyard.engine.commit import apply
from runyard.engine.orders import any_node, credentials_for, open_credentials
from runyard.engine.world import World
from runyard.ports.executor import DataPart, StageRequest
from runyard.ports.logs import LogKey
from runyard.ports.objects import Checked, Verdict

_BATCH = 500
_REASONS = {
    Verdict.not_found: Reason.data_not_found,
    Verdict.denied: Reason.data_access_denied,
    Verdict.unreachable: Reason.data_unreachable,
}


@dataclass(slots=True)
class Again:
    """Specs whose listing failed for now: how often, and when to try again."""

    backoff: RetryPolicy
    tries: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])

    def due(self, spec_id: int, now: int) -> bool:
        """Whether it may be tried now."""
        return self.tries.get(spec_id, (0, 0))[1] <= now

    def failed(self, spec_id: int, now: int) -> int:
        """Count a failure; returns how many there were."""
        count = self.tries.get(spec_id, (0, 0))[0] + 1
        self.tries[spec_id] = (count, now + self.backoff.backoff_ms(count))
        return count

    def wake_in_s(self, now: int) -> float | None:
        """Seconds until the next try is due, None when none waits."""
        times = [at for _, at in self.tries.values() if at > now]
        return (min(times) - now) / 1000 if times else None


async def turn(world: World) -> None:
    """Stage whatever waits for it, in the order of the queue, until cancelled."""
    again = Again(world.rules.retry)
    tasks: set[asyncio.Task[None]] = set()
    with world.bell.listen(STAGE) as ear:
        while True:
            now = world.clock.now_ms()
            specs = await asyncio.to_thread(world.store.specs_to_stage, world.rules.stage_window)
            again.tries = {spec: state for spec, state in again.tries.items() if spec in specs}
            for spec_id in specs:
                if again.due(spec_id, now):
                    task = asyncio.create_task(asyncio.to_thread(stage, world, spec_id, again))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            await ear.wait(again.wake_in_s(now))


def stage(world: World, spec_id: int, again: Again) -> None:
    """List the data of a spec and ask a node to make it ready; nothing happens when one is asked already."""
    node_id = any_node(world)
    if node_id is None or not world.ready.ask(node_id, spec_id):
        return
    if world.ready.has(node_id, spec_id):
        staged(world, node_id, spec_id)
        return
    parts, failure = _plan(world, spec_id)
    if failure is None:
        spec = world.specs.get(spec_id)
        world.executor.stage(StageRequest(node_id, spec_id, spec.account_id, spec.code_sha256, parts))
        return
    location, checked = failure
    now = world.clock.now_ms()
    tries = again.failed(spec_id, now) if checked.verdict is Verdict.unreachable else world.rules.stage_attempts
    if tries < world.rules.stage_attempts:
        world.ready.answered(spec_id)
        world.bell.ring(STAGE)
        return
    log = f"{_place(location)}: {checked.message}\n"
    failed(world, node_id, spec_id, _REASONS[checked.verdict], checked.message, log)


def _plan(world: World, spec_id: int) -> tuple[tuple[DataPart, ...], tuple[Location, Checked] | None]:
    spec = world.specs.get(spec_id)
    secrets = open_credentials(world, spec)
    parts: list[DataPart] = []
    for location in spec.spec.data:
        credentials = credentials_for(secrets, location)
        if location.kind is StoreKind.volume:
            parts.append(DataPart(location, (), credentials))
            continue
        listing = world.objects.list(location, credentials, account_id=spec.account_id)
        if listing.checked.verdict is Verdict.ok and not listing.entries:
            message = f"There is no object in {_place(location)}: push the data first, or correct the name."
            return (), (location, Checked(Verdict.not_found, message))
        if listing.checked.verdict is not Verdict.ok:
            return (), (location, listing.checked)
        parts.append(DataPart(location, tuple(listing.entries), credentials))
    return tuple(parts), None


def _place(location: Location) -> str:
    where = location.bucket + (f"/{location.prefix}" if location.prefix else "")
    return f"{location.kind.value} bucket {where}"


def staged(world: World, node_id: str, spec_id: int) -> bool:
    """A node has code and data of a spec ready: all its waiting runs may start there."""
    world.ready.add(node_id, spec_id)
    world.ready.answered(spec_id)
    count = world.store.mark_staged(spec_id, node_id, world.clock.now_ms())
    world.bell.ring(DISPATCH, EVENTS, STAGE)
    return count > 0


def failed(world: World, node_id: str, spec_id: int, reason: Reason, detail: str, log: str) -> bool:
    """Code or data cannot be had: every waiting run of the spec that is not ready fails, with the evidence stored."""
    world.ready.answered(spec_id)
    now = world.clock.now_ms()
    count = 0
    while runs := [run for run in world.store.waiting_of_spec(spec_id, _BATCH) if run.ready_on is None]:
        transitions: list[lifecycle.Transition] = []
        for run in runs:
            world.logs.append(LogKey(run.id, 0, stream="load-data"), 0, log.encode(), now)
            transition = lifecycle.staging_failed(run, reason, detail, now)
            if transition is not None:
                transitions.append(replace(transition, after=replace(transition.after, ready_on=node_id)))
        count += sum(apply(world, transitions))
    world.bell.ring(STAGE)
    return count > 0
