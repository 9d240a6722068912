"""Runs, queues and facts for the tests of core: short to write, with every default in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace

from runyard.core import lifecycle
from runyard.core.idle import IdleRule, Quiet, Then
from runyard.core.lifecycle import Exit, RetryPolicy, Transition, is_granted
from runyard.core.reasons import Reason
from runyard.core.resources import Resources
from runyard.core.run import HOLDS_SLOT, TRANSITIONS, Run, Running, StateName, StopCause, Waiting

T0 = 1_700_000_000_000
"""When the runs of these tests are created, ms."""

POLICY = RetryPolicy(platform_attempts=2, first_backoff_ms=1_000, longest_backoff_ms=300_000)

IDENTITY = tuple(
    f.name
    for f in fields(Run)
    if f.name not in {"state", "version", "attempts", "ready_on", "staged_ms", "finished_ms", "stored_ms"}
)


def new_run(number: int = 1, **changes: object) -> Run:
    """A run that was just accepted: one GPU, four CPUs, 24 GiB."""
    run = Run(
        id=f"training-{number:09d}",
        seq=number,
        account_id="acme",
        member_id="ada",
        name="mnist",
        spec_id=1,
        parameters="{}",
        class_id=1,
        resources=Resources(1, 4_000, 24 * 1024),
        priority=50,
        rank=number,
        state=Waiting(),
        version=1,
        created_ms=T0,
    )
    return replace(run, **changes)  # type: ignore[arg-type]  # keyword arguments are not checked one by one


def checked(run: Run, transition: Transition | None) -> Transition:
    """The transition, after a look at all that must hold of any."""
    assert transition is not None
    before, after = transition.before, transition.after
    assert before is run
    assert after.version == before.version + 1
    assert after.state_name in TRANSITIONS[before.state_name], f"{before.state_name} -> {after.state_name}"
    assert all(getattr(after, name) == getattr(before, name) for name in IDENTITY)
    assert transition.events or is_granted(before) or is_granted(after), "a grant alone is nothing to tell of"
    assert {(e.run_id, e.account_id) for e in transition.events} == (
        {(run.id, run.account_id)} if transition.events else set()
    )
    unseen = is_granted(before) and len(after.attempts) > len(before.attempts)
    released = (before.state_name in HOLDS_SLOT or unseen) and after.state_name not in HOLDS_SLOT
    assert (transition.settled is not None) == released
    if released:
        assert transition.settled is after.attempts[-1]
    for old, kept in zip(before.attempts[:-1], after.attempts, strict=False):
        assert kept is old
    return transition


def went(run: Run, *facts: Callable[[Run], Transition | None]) -> Run:
    """The run after facts, none of which may be stale."""
    for fact in facts:
        run = checked(run, fact(run)).after
    return run


def number_of(run: Run) -> int:
    """The number of the latest attempt, 0 before the first."""
    return len(run.attempts)


Fact = Callable[[Run], Transition | None]


def assign(now: int = T0 + 1_000) -> Fact:
    return lambda run: lifecycle.assign(run, "node-1", (0,), now)


def begun(at_ms: int = T0 + 2_000, now: int = T0 + 2_000) -> Fact:
    return lambda run: lifecycle.begun(run, number_of(run), at_ms, now)


def exits(code: int | None = 0, now: int = T0 + 9_000, *, policy: RetryPolicy = POLICY, **record: object) -> Fact:
    """The program of the latest attempt is gone; ``record`` names fields of :class:`Exit`."""
    fields_of_record: dict[str, object] = {"at_ms": now, "exit_code": code, "signal": None} | record
    return lambda run: lifecycle.ended(run, number_of(run), Exit(**fields_of_record), policy, now)  # type: ignore[arg-type]  # keyword arguments are not checked one by one


def is_lost(reason: Reason = Reason.node_lost, now: int = T0 + 9_000, *, policy: RetryPolicy = POLICY) -> Fact:
    return lambda run: lifecycle.lost(run, number_of(run), reason, "the evidence", policy, now)


def stop(cause: StopCause, now: int = T0 + 5_000) -> Fact:
    return lambda run: lifecycle.stop(run, cause, now)


def gpu_fails(detail: str = "GPU 0 reported XID 79.", now: int = T0 + 3_000) -> Fact:
    return lambda run: lifecycle.gpu_error(run, number_of(run), detail, now)


def goes_quiet(now: int = T0 + 4_000) -> Fact:
    return lambda run: lifecycle.quiet(run, number_of(run), Quiet.hung, T0 + 3_000, now)


def is_stopped_for_it(now: int = T0 + 4_500) -> Fact:
    """What follows for a run that was found quiet."""

    def follows(run: Run) -> Transition | None:
        quiet = goes_quiet()(run)
        found = None if quiet is None else lifecycle.stop_quiet(quiet.after, IdleRule(1, Then.requeue), now)
        if found is None:
            return None
        return replace(found, before=run, after=replace(found.after, version=run.version + 1))

    return follows


def staged(now: int = T0 + 500) -> Fact:
    return lambda run: lifecycle.staged(run, "node-1", now)


def granted(now: int = T0 + 600) -> Fact:
    return lambda run: lifecycle.granted(run, "node-1", now)


def next_number(run: Run) -> int:
    """The number of the attempt that a node tells of: of a granted run the one that would be next."""
    return number_of(run) + is_granted(run)


def declined(now: int = T0 + 700) -> Fact:
    return lambda run: lifecycle.declined(run, "node-1", next_number(run), now)


def taken(at_ms: int = T0 + 1_000, now: int = T0 + 1_000, slots: tuple[int, ...] = (1,)) -> Fact:
    return lambda run: lifecycle.taken(run, "node-1", next_number(run), slots, at_ms, now)


def unblocked(now: int = T0 + 500) -> Fact:
    return lambda run: lifecycle.unblocked(run, now)


def dependency_fails(now: int = T0 + 500) -> Fact:
    return lambda run: lifecycle.dependency_failed(run, "training-000000009 failed.", now)


def staging_fails(reason: Reason = Reason.data_not_found, now: int = T0 + 500) -> Fact:
    return lambda run: lifecycle.staging_failed(run, reason, "no bucket of that name", now)


def stored(now: int = T0 + 10_000) -> Fact:
    return lambda run: lifecycle.stored(run, now, 3, 4_096)


def store_fails(now: int = T0 + 10_000, *, denied: bool = False) -> Fact:
    return lambda run: lifecycle.store_failed(run, "connection refused", now, denied=denied)


def loses_results(now: int = T0 + 10_000) -> Fact:
    return lambda run: lifecycle.results_lost(run, "The folder is gone.", now)


def _starting() -> Run:
    return went(new_run(), staged(), assign())


def _running() -> Run:
    return went(_starting(), begun())


def in_every_state() -> Mapping[StateName, Run]:
    """One run in each state, on the usual way there."""
    running = _running()
    assert running.state == Running()
    return {
        StateName.waiting: new_run(),
        StateName.starting: _starting(),
        StateName.running: running,
        StateName.stopping: went(running, stop(StopCause.preempt)),
        StateName.storing: went(running, exits(0)),
        StateName.completed: went(running, exits(0), stored()),
        StateName.failed: went(running, exits(1), stored()),
        StateName.canceled: went(running, stop(StopCause.cancel), exits(143, cause=StopCause.cancel), stored()),
    }
