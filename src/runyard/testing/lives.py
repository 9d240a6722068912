"""Leading runs through their lives in a store, one guarded change after the other."""

from __future__ import annotations

from dataclasses import replace

from runyard.core import lifecycle
from runyard.core.account import Account
from runyard.core.lifecycle import Exit, RetryPolicy, Transition
from runyard.core.metering import settle
from runyard.core.resources import Price
from runyard.core.run import Run
from runyard.core.spec import RunSpec
from runyard.ports.store import Store
from runyard.testing.builders import NOW, a_submission

PRICE = Price(gpu_hour=3_600_000, cpu_hour=0, gb_hour=0)
"""One thousand micro-units for a GPU-second."""


def accept(
    store: Store,
    count: int = 1,
    *,
    first: int = 1,
    spec: RunSpec | None = None,
    account_id: str = "acme",
    member_id: str = "mia",
    now_ms: int = NOW,
    after: tuple[str, ...] = (),
    ready_on: str | None = None,
    key: str | None = None,
) -> list[Run]:
    """Submit runs of an account that is made where it is missing; returns them as the store has them."""
    store.ensure_account(Account(account_id, account_id.title()))
    store.ensure_member(member_id, account_id, member_id.title())
    submission = a_submission(
        count, first=first, spec=spec, account_id=account_id, member_id=member_id, now_ms=now_ms, after=after
    )
    submission = replace(submission, ready_on=ready_on, idempotency_key=key)
    ids, _replayed = store.submit(replace(submission, resources=submission.spec.request.resources))
    return [known(store, run_id) for run_id in ids]


def known(store: Store, run_id: str) -> Run:
    """The run of an id that must be there."""
    run = store.run(run_id)
    assert run is not None, f"{run_id} is not in the store"
    return run


def step(store: Store, transition: Transition | None) -> Run:
    """Apply a transition that must be possible, with its ledger entry; returns the run as the store then has it."""
    assert transition is not None, "the run cannot make this step"
    settled = transition.settled
    ledger = [] if settled is None else [settle(transition.after, settled, PRICE)]
    assert store.apply((transition,), ledger) == (True,)
    return known(store, transition.after.id)


def start(store: Store, run: Run, *, node_id: str = "n1", slots: tuple[int, ...] = (0,), now: int = NOW) -> Run:
    """Give a waiting run a slot, and let its program begin."""
    assigned = step(store, lifecycle.assign(run, node_id, slots, now))
    return step(store, lifecycle.begun(assigned, assigned.attempts[-1].number, now, now))


def end(store: Store, run: Run, *, now: int = NOW + 1000, exit_code: int = 0) -> Run:
    """Let the program of a run end."""
    record = Exit(now, exit_code, None, log_bytes=12, tamper_proof=True, peak_memory_mib=100)
    return step(store, lifecycle.ended(run, run.attempts[-1].number, record, RetryPolicy(), now))


def finish(store: Store, run: Run, *, now: int = NOW, duration_ms: int = 1000, exit_code: int = 0) -> Run:
    """Lead a waiting run to its end: start, end after ``duration_ms``, results stored."""
    storing = end(store, start(store, run, now=now), now=now + duration_ms, exit_code=exit_code)
    return step(store, lifecycle.stored(storing, now + duration_ms, 3, 1024))
