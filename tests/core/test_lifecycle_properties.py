"""What holds of a run's life whatever happens to it, in any order, with clocks that disagree."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from runyard.core import lifecycle
from runyard.core.events import EventKind
from runyard.core.lifecycle import Exit, RetryPolicy, Transition
from runyard.core.metering import LedgerEntry, settle
from runyard.core.reasons import RULES, Fault, Reason
from runyard.core.resources import Price
from runyard.core.run import FINAL, HOLDS_SLOT, Attempt, Finished, Run, StateName, StopCause, Storing, Waiting
from tests.core.builders import T0, checked, new_run

PRICE = Price(gpu_hour=1_500_000, cpu_hour=40_000, gb_hour=5_000)
PLATFORM = [reason for reason in Reason if RULES[reason].fault is Fault.platform and RULES[reason].retry]
STAGING = [Reason.code_invalid, Reason.data_not_found, Reason.data_access_denied, Reason.data_unreachable]


@dataclass(frozen=True, slots=True)
class Happening:
    """A fact as it reaches the server: ``step_ms`` after the one before, told by a clock that is ``skew_ms`` off, of
    the latest attempt or one ``back`` attempts before it."""

    what: str
    step_ms: int
    skew_ms: int
    back: int
    cause: StopCause | None
    code: int | None
    signal: int | None
    oom_kills: int
    error: str | None
    reason: Reason
    denied: bool


ANY = [
    *("assign", "granted", "declined", "taken", "begun", "ended", "lost", "stop", "staged", "staging_failed"),
    *("stored", "store_failed", "results_lost"),
]
LIKELY = {
    StateName.waiting: ["assign"] * 3 + ["staged"] + ["granted", "taken"] * 2 + ["declined", "lost", "stop"],
    StateName.starting: ["begun"] * 4 + ["ended", "lost", "stop"],
    StateName.running: ["ended"] * 2 + ["lost", "stop"],
    StateName.stopping: ["ended"] * 2 + ["begun", "lost", "stop"],
    StateName.storing: ["stored", "store_failed", "results_lost", "stop"],
}
"""By state, what mostly happens; anything else happens too, in one case of five."""


@cache
def happenings(state: StateName) -> st.SearchStrategy[Happening]:
    return st.builds(Happening, what=whats(state), **HOW)


def whats(state: StateName) -> st.SearchStrategy[str]:
    likely = LIKELY.get(state, ANY)
    return st.integers(0, 4).flatmap(lambda n: st.sampled_from(likely if n else ANY))


HOW: dict[str, st.SearchStrategy[Any]] = {
    "step_ms": st.integers(0, 5_000),
    "skew_ms": st.sampled_from([0, 0, -1, 1, -3_600_000, 3_600_000]),
    "back": st.sampled_from([0, 0, 0, 0, 1, 2, -1]),
    "cause": st.sampled_from([None, None, None, *StopCause]),
    "code": st.sampled_from([0, 0, 1, 1, 126, 127, 137, None]),
    "signal": st.sampled_from([None, None, 9, 15]),
    "oom_kills": st.sampled_from([0, 0, 1]),
    "error": st.sampled_from([None, None, None, "no interpreter"]),
    "reason": st.sampled_from(PLATFORM),
    "denied": st.booleans(),
}
policies = st.builds(RetryPolicy, platform_attempts=st.integers(0, 3), first_backoff_ms=st.integers(0, 2_000))


def tell(run: Run, h: Happening, policy: RetryPolicy, now: int) -> Transition | None:
    number, at = len(run.attempts) + lifecycle.is_granted(run) - h.back, now + h.skew_ms
    match h.what:
        case "assign":
            return lifecycle.assign(run, "node-1", (0,), now)
        case "granted":
            return lifecycle.granted(run, "node-1", now)
        case "declined":
            return lifecycle.declined(run, "node-1", number, now)
        case "taken":
            return lifecycle.taken(run, "node-1", number, (h.step_ms % 2,), at, now)
        case "begun":
            return lifecycle.begun(run, number, at, now)
        case "ended":
            signal = h.signal if h.code is None else None
            record = Exit(at, h.code, signal, h.cause, h.oom_kills, h.error)
            return lifecycle.ended(run, number, record, policy, now)
        case "lost":
            return lifecycle.lost(run, number, h.reason, "", policy, now)
        case "stop":
            return lifecycle.stop(run, h.cause or StopCause.preempt, now)
        case "staged":
            return lifecycle.staged(run, "node-1", now)
        case "staging_failed":
            return lifecycle.staging_failed(run, STAGING[h.step_ms % len(STAGING)], "", now)
        case _:
            return tell_of_storing(run, h, now)


def tell_of_storing(run: Run, h: Happening, now: int) -> Transition | None:
    match h.what:
        case "stored":
            return lifecycle.stored(run, now, 1, 1)
        case "results_lost":
            return lifecycle.results_lost(run, "It is gone.", now)
        case _:
            return lifecycle.store_failed(run, "no answer", now, denied=h.denied)


@dataclass(frozen=True, slots=True)
class Life:
    """A run after everything, with every transition that it made and the time at the end."""

    run: Run
    transitions: tuple[Transition, ...]
    now: int


@st.composite
def lives(draw: st.DrawFn) -> Life:
    run = new_run(max_retries=draw(st.integers(0, 2)))
    policy, now = draw(policies), T0
    transitions: list[Transition] = []
    for _ in range(draw(st.integers(0, 30))):
        happening = draw(happenings(run.state_name))
        now += happening.step_ms
        transition = tell(run, happening, policy, now)
        if transition is None:
            continue
        transitions.append(checked(run, transition))
        run = transition.after
    event(f"{run.state_name}, {min(3, len(run.attempts))} attempts or more")
    return Life(run, tuple(transitions), now)


@given(lives())
def test_final_is_final_and_every_change_counts_one_version(life: Life) -> None:
    assert life.run.version == 1 + len(life.transitions)
    names = [t.after.state_name for t in life.transitions]
    assert not FINAL.intersection(names[:-1])
    finished = [e for t in life.transitions for e in t.events if e.kind is EventKind.finished]
    assert len(finished) == (1 if life.run.state_name in FINAL else 0)


@given(lives())
def test_state_and_record_agree(life: Life) -> None:
    for transition in life.transitions:
        run = transition.after
        assert [a.number for a in run.attempts] == list(range(1, len(run.attempts) + 1))
        open_attempts = [a for a in run.attempts if a.ending is None]
        assert len(open_attempts) == (1 if run.state_name in HOLDS_SLOT else 0)
        assert open_attempts in ([], [run.attempt])
        assert all((a.ending is None) == (a.released_ms is None) for a in run.attempts)
        if run.state_name is StateName.starting:
            assert run.attempts[-1].started_ms is None
        if run.state_name is StateName.running:
            assert run.attempts[-1].started_ms is not None
        assert (run.finished_ms is None) == (run.state_name in HOLDS_SLOT | {StateName.waiting})
        if isinstance(run.state, Storing | Finished):
            assert run.state.ending.outcome in FINAL
        if isinstance(run.state, Finished):
            assert run.state_name is run.state.ending.outcome
        assert run.stored_ms is None or run.state_name in FINAL


@given(lives())
def test_slot_time_never_overlaps_and_lies_within_the_life_of_the_run(life: Life) -> None:
    free_from = T0
    for attempt in life.run.attempts:
        assert free_from <= attempt.assigned_ms
        free_from = attempt.assigned_ms
        if attempt.started_ms is not None:
            assert attempt.assigned_ms <= attempt.started_ms <= life.now
            free_from = attempt.started_ms
        if attempt.released_ms is not None:
            assert free_from <= attempt.released_ms <= life.now
            free_from = attempt.released_ms


def closed(life: Life) -> list[Attempt]:
    return [a for a in life.run.attempts if a.ending is not None]


def ledger(life: Life) -> list[LedgerEntry]:
    return [settle(t.after, t.settled, PRICE) for t in life.transitions if t.settled is not None]


@given(lives())
def test_every_closed_attempt_is_settled_once_and_only_the_platforms_fault_is_free(life: Life) -> None:
    assert [t.settled for t in life.transitions if t.settled is not None] == closed(life)
    entries = ledger(life)
    for attempt, entry in zip(closed(life), entries, strict=True):
        assert attempt.ending is not None
        platform = RULES[attempt.ending.reason].fault is Fault.platform
        assert entry.waste == platform
        assert entry.cost == 0 or not platform
    assert sum(entry.gpu_ms for entry in entries) <= life.now - T0


@given(lives())
def test_a_new_attempt_has_its_budget_and_no_wish_against_it(life: Life) -> None:
    wished = False
    for transition in life.transitions:
        for told in transition.events:
            wished = wished or (told.kind is EventKind.stopping and told.body["cause"] in {"cancel", "prune"})
        if transition.events and transition.events[-1].kind is EventKind.requeued:
            assert not wished
    followed = life.run.attempts[:-1]
    counts = Counter(RULES[a.ending.reason].fault for a in followed if a.ending is not None)
    assert counts[Fault.user] <= life.run.max_retries
    assert counts[Fault.platform] <= 3


@given(lives())
def test_back_off_never_ends_before_it_began(life: Life) -> None:
    for transition in life.transitions:
        state = transition.after.state
        # A grant ahead, given once the back-off is over, and its return say nothing of one.
        waited = isinstance(transition.before.state, Waiting)
        if isinstance(state, Waiting) and state.previous is not None and not waited:
            assert transition.after.attempts
            assert state.not_before_ms >= transition.after.attempts[-1].assigned_ms
            assert state.previous == transition.after.attempts[-1].ending


@given(lives(), st.integers(0, 10))
def test_a_run_can_always_be_brought_to_its_end(life: Life, later: int) -> None:
    """From wherever it is: cancel, then the program's exit, then the store's word."""
    run, now = life.run, life.now + later
    for _ in range(3):
        number = len(run.attempts)
        record = Exit(now, None, 15, StopCause.cancel)
        step = (
            lifecycle.stop(run, StopCause.cancel, now)
            or lifecycle.ended(run, number, record, RetryPolicy(), now)
            or lifecycle.stored(run, now, 0, 0)
        )
        run = checked(run, step).after if step is not None else run
    assert run.state_name in FINAL
