"""What people do to runs and queues: cancel, delete, move, pause."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from runyard.core import lifecycle
from runyard.core.account import OwnQuota
from runyard.core.errors import Conflict, NotFound, Refused
from runyard.core.reasons import Reason
from runyard.core.run import FINAL, Ending, Run, StateName, StopCause
from runyard.engine import queries
from runyard.engine.bell import AFTER, DISPATCH, EVENTS, STAGE, log_topic
from runyard.engine.commit import apply, change
from runyard.engine.orders import credentials_for, open_credentials
from runyard.engine.world import World
from runyard.ports.store import RunQuery

_BATCH = 300
_THOUSANDS = 2000
_PAGE = 5000
_NEVER_BEGAN = lifecycle.sentence_of(Ending(StateName.canceled, Reason.canceled))


def find(world: World, account_id: str, run_id: str) -> Run:
    """A run of an account by its complete id. Raises :class:`NotFound` for anybody else's as for nobody's."""
    run = world.store.run(run_id)
    if run is None or run.account_id != account_id:
        raise NotFound(f"There is no training run {run_id}: `runyard list` shows those that there are.")
    return run


def cancel(world: World, account_id: str, run_id: str) -> Run:
    """Ask a run to stop. A final run stays as it is."""
    return cancel_known(world, find(world, account_id, run_id))


def cancel_known(world: World, run: Run) -> Run:
    """The same for a run as it was read a moment ago."""
    now = world.clock.now_ms()
    changed = change(world, run.id, lambda known: lifecycle.stop(known, StopCause.cancel, now), known=run)
    return changed or find(world, run.account_id, run.id)


@dataclass(frozen=True, slots=True)
class Asked:
    """A run that was asked to stop (or was final before), as it then was."""

    id: str
    state_name: StateName
    sentence: str


def cancel_many(world: World, account_id: str, run_ids: Sequence[str]) -> list[Asked]:
    """Ask some runs of an account to stop; returns how they are now, in this order. Those that are not there are left
    out, final ones stay as they are. What nothing has begun of is canceled by the thousand, the others by the hundred:
    what else wants to be written comes in between."""
    found: dict[str, Asked] = {}
    for begin in range(0, len(run_ids), _THOUSANDS):
        batch = run_ids[begin : begin + _THOUSANDS]
        ended = world.store.cancel_waiting(account_id, batch, world.clock.now_ms())
        found |= {run_id: Asked(run_id, StateName.canceled, _NEVER_BEGAN) for run_id in ended}
        world.bell.ring(*([EVENTS, AFTER] if ended else []), *map(log_topic, ended))
    left = [run_id for run_id in run_ids if run_id not in found]
    for begin in range(0, len(left), _BATCH):
        for run in _cancel(world, account_id, left[begin : begin + _BATCH]):
            found[run.id] = Asked(run.id, run.state_name, queries.told(world, run))
    return [found[run_id] for run_id in run_ids if run_id in found]


def _cancel(world: World, account_id: str, run_ids: Sequence[str]) -> list[Run]:
    now = world.clock.now_ms()
    there: dict[str, Run] = {}
    left = run_ids
    while left:
        there |= {run.id: run for run in world.store.runs_of(left) if run.account_id == account_id}
        runs = [there[run_id] for run_id in left if run_id in there]
        stops = [stop for stop in (lifecycle.stop(run, StopCause.cancel, now) for run in runs) if stop is not None]
        applied = apply(world, stops) if stops else ()
        there |= {stop.after.id: stop.after for stop, yes in zip(stops, applied, strict=True) if yes}
        left = [stop.after.id for stop, yes in zip(stops, applied, strict=True) if not yes]  # somebody was faster
    return [there[run_id] for run_id in run_ids if run_id in there]


def live_ids(world: World, account_id: str, states: frozenset[StateName], tag: str | None = None) -> list[str]:
    """The runs of an account in some states (with a tag), newest first: those that nothing has begun of come before
    those whose end makes room for them."""
    found: list[str] = []
    before: int | None = None
    while page := world.store.listed(RunQuery(account_id, states, tag, before_seq=before, limit=_PAGE)):
        found += [run_id for _seq, run_id in page]
        before = page[-1][0]
    return found


def delete(world: World, account_id: str, run_id: str, *, with_results: bool) -> None:
    """Remove the record of a final run, and what is in its bucket when asked to. Ledger and events stay."""
    run = find(world, account_id, run_id)
    if run.state_name not in FINAL:
        raise Conflict(f"{run_id} is {run.state_name.value}: cancel it first, and delete it once it has ended.")
    if with_results:
        stored = world.specs.get(run.spec_id)
        location = stored.spec.results
        credentials = credentials_for(open_credentials(world, stored), location)
        world.objects.delete_prefix(location, credentials, f"{run.id}/", account_id=account_id)
    if not world.store.delete_run(run_id, world.clock.now_ms()):
        raise Conflict(f"{run_id} has changed in the meantime: try again.")
    world.logs.delete(run_id)
    world.metrics.delete(run_id)
    world.bell.ring(EVENTS, log_topic(run_id))


def move(world: World, account_id: str, run_id: str, position: int) -> Run:
    """Move a waiting run to a position (from 1) among all that wait with its priority."""
    run = find(world, account_id, run_id)
    if position < 1:
        raise Refused("Positions in the queue count from 1.")
    if run.state_name is not StateName.waiting or not world.store.set_rank(run_id, position, world.clock.now_ms()):
        raise Conflict(f"{run_id} is {run.state_name.value}: only waiting runs can be moved.")
    world.bell.ring(DISPATCH, EVENTS, STAGE)
    return find(world, account_id, run_id)


def set_priority(world: World, account_id: str, run_id: str, priority: int) -> Run:
    """Give a waiting run another priority; it keeps its place among those of that priority."""
    run = find(world, account_id, run_id)
    if not 0 <= priority <= 100:
        raise Refused("A priority is 0 to 100.")
    if not world.store.set_priority(run_id, priority, world.clock.now_ms()):
        raise Conflict(f"{run_id} is {run.state_name.value}: only waiting runs can be given another priority.")
    world.bell.ring(DISPATCH, EVENTS, STAGE)
    return find(world, account_id, run_id)


def pause(world: World, account_id: str | None, paused: bool) -> None:
    """Hold or let go an account's queue, or the whole queue (None). What runs goes on."""
    if not world.store.set_paused(account_id, paused):
        raise NotFound(queries.no_account(account_id or ""))
    world.bell.ring(DISPATCH, EVENTS)


def set_quota(world: World, account_id: str, gpus: int | None) -> None:
    """Set how many GPUs an account may use at once (None: all), whatever its plan says. What runs goes on."""
    change_quota(world, account_id, {"gpus": gpus})


def change_quota(world: World, account_id: str, own: OwnQuota, dropped: Collection[str] = ()) -> None:
    """Set parts of an account's quota in the place of its plan's, and give ``dropped`` parts back to the plan."""
    if any(value is not None and value < 0 for value in own.values()):
        raise Refused("A quota is 0 or more.")
    if not world.store.set_own_quota(account_id, own, dropped):
        raise NotFound(queries.no_account(account_id))
    world.bell.ring(DISPATCH)
