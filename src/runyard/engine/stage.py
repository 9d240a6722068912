"""Staging: code and data become ready on a node while the runs wait. Once for all runs of a submission."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from runyard.core import lifecycle
from runyard.core.reasons import RULES, Fault, Reason
from runyard.core.run import Run
from runyard.core.spec import Location, StoreKind
from runyard.engine import inputs, wishes
from runyard.engine.bell import DISPATCH, EVENTS, STAGE
from runyard.engine.commit import apply
from runyard.engine.orders import credentials_for, open_credentials, open_secrets, warm_of
from runyard.engine.readiness import content_of
from runyard.engine.world import World
from runyard.ports.environments import NO_FACTS
from runyard.ports.executor import DataPart, StageRequest
from runyard.ports.logs import LogKey
from runyard.ports.objects import Checked, Verdict

_BATCH = 500
_REASONS = {
    Verdict.not_found: Reason.data_not_found,
    Verdict.denied: Reason.data_access_denied,
    Verdict.unreachable: Reason.data_unreachable,
}
_NO_PLAN = "The server could not plan the transfer; its log says why."
_log = logging.getLogger(__name__)


async def turn(world: World) -> None:
    """Stage whatever waits for it, in the order of the queue, until cancelled."""
    loop = asyncio.get_running_loop()
    # Threads of its own: a store that does not answer must not keep other stations from theirs.
    pool = ThreadPoolExecutor(world.rules.stage_window, "stage")
    try:
        with world.bell.listen(STAGE) as ear:
            while True:
                specs = await asyncio.to_thread(world.store.specs_to_stage, world.rules.stage_window)
                now = world.clock.now_ms()
                due = {spec_id: world.ready.due_ms(spec_id) for spec_id in specs}
                for spec_id in specs:
                    if due[spec_id] <= now and not world.ready.asked(spec_id):
                        loop.run_in_executor(pool, stage, world, spec_id)
                later = [at for at in due.values() if at > now]
                await ear.wait((min(later) - now) / 1000 if later else None)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def stage(world: World, spec_id: int) -> None:
    """List the data of a spec and ask a node to make it ready; nothing happens when one is asked already.

    What goes wrong with one spec is told of, and tried again later: it harms no other.
    """
    try:
        node_id = node_for(world, spec_id)
        if node_id is not None and world.ready.ask(node_id, spec_id):
            _ask_safely(world, node_id, spec_id)
    except Exception:
        _log.exception("staging spec %d failed", spec_id)
        world.ready.failed(spec_id, world.clock.now_ms(), world.rules.retry)
        world.ready.answered(spec_id)
        world.bell.ring(STAGE)


def _ask_safely(world: World, node_id: str, spec_id: int) -> None:
    try:
        _ask(world, node_id, spec_id)
    except Exception:
        _log.exception("staging spec %d could not be planned", spec_id)
        _put_off(world, node_id, spec_id, Reason.staging_failed, _NO_PLAN, _NO_PLAN + "\n")


def node_for(world: World, spec_id: int) -> str | None:
    """The connected node that is to make a spec ready: one that has it, else the first that can take its runs; one that
    is being drained only where no other can."""
    first = next(iter(world.store.waiting_of_spec(spec_id, 1)), None)
    if first is None:
        return None
    spec = world.specs.get(spec_id).spec
    fitting = [
        (node.draining_ms is not None, not world.ready.has(node.id, spec_id), node.id)
        for node in wishes.taking(world.store.nodes(), spec, first.resources)
    ]
    return min(fitting)[-1] if fitting else None


def _ask(world: World, node_id: str, spec_id: int) -> None:
    if world.ready.has(node_id, spec_id):
        staged(world, node_id, spec_id)
        return
    spec = world.specs.get(spec_id)
    named = spec.environment.registry
    registry = None if named is None else open_secrets(world, spec.account_id, [named]).get(named)
    if named is not None and registry is None:
        _fail(world, node_id, spec_id, Reason.secret_missing, f"Not stored: {named}.", f"Not stored: {named}.\n")
        return
    parts, failure = _plan(world, spec_id)
    if failure is None:
        first = next(iter(world.store.waiting_of_spec(spec_id, 1)), None)
        warm = None if first is None else warm_of(world, first, spec)
        _order(
            world,
            StageRequest(
                node_id,
                spec_id,
                spec.account_id,
                spec.code_sha256,
                parts,
                True,
                spec.environment,
                warm,
                registry=registry,
            ),
        )
        return
    location, checked = failure
    log = f"{_place(location)}: {checked.message}\n"
    reason = _REASONS[checked.verdict]
    if checked.verdict is Verdict.unreachable:
        _put_off(world, node_id, spec_id, reason, checked.message, log)
    else:
        _fail(world, node_id, spec_id, reason, checked.message, log)


def _order(world: World, request: StageRequest) -> None:
    """Ask the node. Where it has told that it has the same ready for another submission, the runs may start there at
    once: their launch follows on the order's heels. No hello comes between the guess and the order."""
    content, facts = content_of(request), inputs.facts_of(request.data)
    with world.orders:
        guessed = world.ready.guess(request.node_id, request.spec_id, content)
        if not guessed and facts != NO_FACTS:
            world.store.put_spec_facts(request.spec_id, facts)
        world.executor.stage(replace(request, guessed=guessed))
    if guessed and world.store.mark_staged(request.spec_id, request.node_id, world.clock.now_ms(), facts=facts):
        world.bell.ring(DISPATCH, EVENTS)


def _put_off(
    world: World, node_id: str, spec_id: int, reason: Reason, detail: str, log: str, model_log: str = ""
) -> bool:
    """What failed may pass: it is tried again after a while, a few times."""
    if world.ready.failed(spec_id, world.clock.now_ms(), world.rules.retry) >= world.rules.stage_attempts:
        return _fail(world, node_id, spec_id, reason, detail, log, model_log)
    world.ready.answered(spec_id)
    world.bell.ring(STAGE)
    return True


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


def staged(world: World, node_id: str, spec_id: int, fetched: int = 0) -> bool:
    """A node has code and data of a spec ready, for which it ``fetched`` so many bytes: all its waiting runs may start
    there."""
    guessed = world.ready.is_guess(node_id, spec_id)
    world.ready.add(node_id, spec_id)
    world.ready.answered(spec_id)
    world.ready.tidy(node_id, lambda spec: bool(world.store.waiting_of_spec(spec, 1)))
    count = world.store.mark_staged(spec_id, node_id, world.clock.now_ms(), fetched)
    if count or not guessed:
        world.bell.ring(DISPATCH, EVENTS, STAGE)
    return count > 0


def failed(
    world: World, node_id: str, spec_id: int, reason: Reason, detail: str, log: str, model_log: str = ""
) -> bool:
    """A node could not make code, data and environment of a spec ready. By the platform's fault it is tried again, a
    few times; else every waiting run of the spec that is not ready fails, with the evidence stored."""
    if world.ready.is_guess(node_id, spec_id):
        world.ready.discard(node_id, spec_id)
        _take_back(world, node_id, spec_id)
    if RULES[reason].fault is Fault.platform:
        return _put_off(world, node_id, spec_id, reason, detail, log, model_log)
    return _fail(world, node_id, spec_id, reason, detail, log, model_log)


def _fail(world: World, node_id: str, spec_id: int, reason: Reason, detail: str, log: str, model_log: str = "") -> bool:
    now = world.clock.now_ms()
    count = 0
    for runs in _batches(world, spec_id, lambda run: run.ready_on is None):
        transitions: list[lifecycle.Transition] = []
        for run in runs:
            world.logs.append(LogKey(run.id, 0, stream="load-data"), 0, log.encode(), now)
            world.logs.append(LogKey(run.id, 0, stream="load-model"), 0, model_log.encode(), now)
            transition = lifecycle.staging_failed(run, reason, detail, now)
            if transition is not None:
                transitions.append(replace(transition, after=replace(transition.after, ready_on=node_id)))
        count += sum(apply(world, transitions))
    world.ready.forgive(spec_id)
    world.ready.answered(spec_id)
    world.bell.ring(STAGE)
    return count > 0


def _take_back(world: World, node_id: str, spec_id: int) -> None:
    """A spec is not ready after all: its runs wait for it again. Of granted ones their node has to tell."""
    for runs in _batches(world, spec_id, lambda run: run.ready_on == node_id and not lifecycle.is_granted(run)):
        apply(
            world,
            [
                lifecycle.Transition(run, replace(run, ready_on=None, staged_ms=None, version=run.version + 1), ())
                for run in runs
            ],
        )


def _batches(world: World, spec_id: int, wanted: Callable[[Run], bool]) -> Iterator[Sequence[Run]]:
    """Batches of the waiting runs of a spec that are wanted, each looked for anew, until there are none."""
    reach = _BATCH
    while True:
        seen = world.store.waiting_of_spec(spec_id, reach)
        found = [run for run in seen if wanted(run)][:_BATCH]
        if found:
            yield found
        elif len(seen) < reach:
            return
        else:
            reach *= 2
