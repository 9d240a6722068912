"""The life of a run: what is wished of it while it goes on: cancels, their races, and runs that wait for others."""

from __future__ import annotations

import pytest

from runyard.core.events import EventKind
from runyard.core.lifecycle import Command
from runyard.core.reasons import Reason
from runyard.core.run import BLOCKED, Ending, Finished, Run, StateName, StopCause, Stopping, Storing, Waiting
from tests.core.builders import (
    T0,
    Fact,
    assign,
    begun,
    checked,
    dependency_fails,
    exits,
    is_lost,
    new_run,
    staged,
    staging_fails,
    stop,
    store_fails,
    stored,
    unblocked,
    went,
)


def stopping(cause: StopCause, max_retries: int = 0) -> Run:
    return went(new_run(max_retries=max_retries), assign(), begun(), stop(cause))


@pytest.mark.parametrize(
    ("end", "outcome", "reason"),
    [
        pytest.param(exits(143, cause=StopCause.cancel), "canceled", "canceled", id="the stop reached it"),
        pytest.param(exits(0, cause=StopCause.cancel), "canceled", "canceled", id="it left politely"),
        pytest.param(exits(0), "completed", "finished", id="it had finished by itself"),
        pytest.param(exits(3), "failed", "nonzero_exit", id="it had failed by itself, and is not tried again"),
        pytest.param(exits(137, oom_kills=1), "failed", "out_of_memory", id="memory ran out first"),
        pytest.param(exits(143, cause=StopCause.time_limit), "failed", "time_limit", id="time ran out first"),
        pytest.param(exits(143, cause=StopCause.preempt), "canceled", "canceled", id="it was making room"),
        pytest.param(exits(None, launch_error="no bash"), "canceled", "canceled", id="it could not be launched"),
        pytest.param(is_lost(), "canceled", "canceled", id="its machine died"),
        pytest.param(exits(None, cause=StopCause.cancel), "canceled", "canceled", id="it never began"),
    ],
)
def test_a_canceled_run_ends_canceled_unless_the_program_ended_first(end: Fact, outcome: str, reason: str) -> None:
    run = went(stopping(StopCause.cancel, max_retries=9), end)
    assert isinstance(run.state, Storing)
    assert (run.state.ending.outcome, run.state.ending.reason) == (outcome, reason)
    assert went(run, stored()).state_name == outcome


def test_a_machine_that_dies_during_a_cancel_is_not_billed() -> None:
    run = went(stopping(StopCause.cancel), is_lost())
    ending = run.attempts[-1].ending
    assert ending is not None
    assert ending.reason is Reason.node_lost
    assert isinstance(run.state, Storing)
    assert run.state.ending.detail == "the evidence"


@pytest.mark.parametrize("before_start", [True, False])
def test_a_cancel_before_the_program_began_or_just_then(before_start: bool) -> None:
    run = went(new_run(), assign(), stop(StopCause.cancel))
    if not before_start:
        run = went(run, begun())
        assert run.state == Stopping(StopCause.cancel, T0 + 5_000)
        assert run.attempts[-1].started_ms is not None
    assert went(run, exits(143, cause=StopCause.cancel), stored()).state_name is StateName.canceled


OVERRIDES = """
first then: fenced     preempt    requeue    time_limit disk_limit idle       prune      cancel
fenced      .          preempt    requeue    time_limit disk_limit idle       prune      cancel
preempt     .          .          requeue    time_limit disk_limit idle       prune      cancel
requeue     .          .          .          time_limit disk_limit idle       prune      cancel
time_limit  .          .          .          .          disk_limit idle       prune      cancel
disk_limit  .          .          .          .          .          idle       prune      cancel
idle        .          .          .          .          .          .          prune      cancel
prune       .          .          .          .          .          .          .          cancel
cancel      .          .          .          .          .          .          .          .
"""


@pytest.mark.parametrize("first", StopCause)
@pytest.mark.parametrize("then", StopCause)
def test_a_weightier_wish_overrides_the_one_before(first: StopCause, then: StopCause) -> None:
    head, *lines = OVERRIDES.strip().splitlines()
    rows = {line.split()[0]: dict(zip(head.split()[2:], line.split()[1:], strict=True)) for line in lines}
    run = stopping(first)
    transition = stop(then, now=T0 + 6_000)(run)
    if rows[first.value][then.value] == ".":
        assert transition is None
    else:
        after = checked(run, transition).after
        assert after.state == Stopping(then, T0 + 5_000)  # the grace runs since the first wish
        assert transition is not None
        assert transition.commands == (Command.stop,)


def test_a_cancel_while_it_makes_room_keeps_it_from_coming_back() -> None:
    run = went(stopping(StopCause.preempt), stop(StopCause.cancel), exits(143, cause=StopCause.preempt), stored())
    assert run.state_name is StateName.canceled


@pytest.mark.parametrize(
    "end",
    [is_lost(), exits(143, cause=StopCause.prune), exits(143, cause=StopCause.preempt)],
    ids=["its machine died", "the stop reached it", "it was making room"],
)
def test_a_pruned_run_does_not_come_back(end: Fact) -> None:
    run = went(stopping(StopCause.prune, max_retries=9), end)
    assert isinstance(run.state, Storing)
    assert (run.state.ending.outcome, run.state.ending.reason) == (StateName.completed, Reason.pruned)


def test_a_late_word_of_making_room_does_not_end_a_run_that_waits_again() -> None:
    run = went(stopping(StopCause.preempt), exits(143, cause=StopCause.preempt))
    assert stop(StopCause.preempt)(run) is None
    assert stop(StopCause.time_limit)(run) is None


def test_a_run_that_waits_for_others_is_freed_once_or_canceled_with_the_reason() -> None:
    blocked = new_run(state=Waiting(BLOCKED))
    staged_one = went(blocked, staged())
    assert staged_one.state == Waiting(BLOCKED)
    freed = checked(staged_one, unblocked()(staged_one))
    assert freed.after.state == Waiting()
    assert [event.kind for event in freed.events] == [EventKind.unblocked]
    assert unblocked()(freed.after) is None
    assert dependency_fails()(freed.after) is None
    ended = checked(blocked, dependency_fails()(blocked))
    assert isinstance(ended.after.state, Finished)
    assert ended.after.state.ending.outcome is StateName.canceled
    assert ended.after.state.ending.reason is Reason.dependency_failed
    assert "training-000000009" in ended.after.state.ending.detail
    assert ended.commands == ()


def test_a_run_that_waits_for_others_ends_like_any_other_that_waits() -> None:
    blocked = new_run(state=Waiting(BLOCKED))
    assert went(blocked, stop(StopCause.cancel)).state_name is StateName.canceled
    assert went(blocked, staging_fails()).state_name is StateName.storing


def test_canceling_a_waiting_run_stores_what_its_attempts_left() -> None:
    fresh = new_run()
    first = checked(fresh, stop(StopCause.cancel)(fresh))
    assert first.after.state == Finished(Ending(StateName.canceled, Reason.canceled))
    assert first.after.finished_ms == T0 + 5_000

    again = went(new_run(), assign(), begun(), is_lost())
    second = checked(again, stop(StopCause.cancel)(again))
    assert second.commands == (Command.store,)
    assert second.after.state == Storing(Ending(StateName.canceled, Reason.canceled))


def test_canceling_while_storing_keeps_what_is_stored_and_says_so() -> None:
    run = went(new_run(), assign(), begun(), exits(0), store_fails(), stop(StopCause.cancel))
    assert isinstance(run.state, Finished)
    assert run.state.ending == Ending(StateName.canceled, Reason.finished, 0)
    assert "kept" in run.state.note
    assert run.stored_ms is None
    assert run.finished_ms == T0 + 9_000
