"""The life of a run that was granted ahead: begun by its node, declined, canceled, fenced."""

from __future__ import annotations

import pytest

from runyard.core import lifecycle
from runyard.core.events import EventKind
from runyard.core.folding import folded
from runyard.core.lifecycle import Command, Transition
from runyard.core.metering import settle
from runyard.core.reasons import Reason
from runyard.core.resources import Price
from runyard.core.run import GRANT, GRANTED, Run, Running, Starting, StateName, StopCause, Stopping, Storing, Waiting
from tests.core.builders import (
    POLICY,
    T0,
    Fact,
    assign,
    begun,
    checked,
    declined,
    exits,
    granted,
    is_lost,
    new_run,
    staged,
    stop,
    stored,
    taken,
    went,
)

PRICE = Price(gpu_hour=3_600_000, cpu_hour=3_600_000, gb_hour=0)


def ahead(run: Run | None = None) -> Run:
    return went(run or new_run(), staged(), granted())


def test_a_grant_waits_as_before_and_tells_nobody() -> None:
    run = went(new_run(), staged())
    given = checked(run, granted()(run))
    assert given.after.state == Waiting(GRANTED, granted_to="node-1")
    assert (given.events, given.commands) == ((), (Command.grant,))
    assert granted()(given.after) is None, "once"


def test_what_may_not_start_there_is_not_granted() -> None:
    assert granted()(new_run()) is None, "not ready"
    assert lifecycle.granted(went(new_run(), staged()), "node-2", T0 + 600) is None
    again = went(new_run(), staged(), assign(), is_lost())
    assert lifecycle.granted(again, "node-1", T0 + 9_001) is None, "its back-off is not over"


def test_its_node_takes_it_and_from_there_on_it_is_like_any_other() -> None:
    run = ahead()
    move = checked(run, taken(at_ms=T0 + 900)(run))
    attempt = move.after.attempts[-1]
    assert (attempt.number, attempt.slots, attempt.assigned_ms, attempt.way) == (1, (1,), T0 + 900, "")
    assert move.after.state == Starting()
    assert [event.kind for event in move.events] == [EventKind.assigned]
    assert move.commands == ()
    assert taken(at_ms=T0 + 900)(move.after) is None, "told a second time"
    assert went(move.after, begun(), exits(0), stored()).state_name is StateName.completed


def test_a_clock_that_is_wrong_cannot_bill_before_the_run_or_after_now() -> None:
    early = went(ahead(), taken(at_ms=0))
    late = went(ahead(), taken(at_ms=T0 + 99_000, now=T0 + 1_000))
    assert (early.attempts[-1].assigned_ms, late.attempts[-1].assigned_ms) == (T0, T0 + 1_000)


def test_what_was_declined_waits_for_its_turn_again() -> None:
    run = went(ahead(), declined())
    assert run.state == Waiting()
    assert declined()(run) is None
    assert lifecycle.declined(ahead(), "node-2", 1, T0) is None
    assert lifecycle.declined(ahead(), "node-1", 2, T0) is None
    assert went(run, granted(T0 + 800), taken()).attempts[-1].number == 1


def test_the_server_may_give_it_a_slot_that_became_free_on_that_node_alone() -> None:
    run = ahead()
    assert lifecycle.assign(run, "node-2", (0,), T0 + 1_000) is None
    given = went(run, assign())
    assert (given.state, given.attempts[-1].slots) == (Starting(), (0,))
    moved = went(given, taken(at_ms=T0 + 950))
    assert (moved.attempts[-1].slots, moved.attempts[-1].assigned_ms) == ((1,), T0 + 950)
    assert taken()(went(moved, begun())) is None, "a program that runs stays where it is"


def test_a_cancel_asks_the_node_first_and_bills_nothing_where_it_had_not_begun() -> None:
    run = ahead()
    move = checked(run, stop(StopCause.cancel)(run))
    assert move.commands == (Command.stop,)
    assert move.after.state == Stopping(StopCause.cancel, T0 + 5_000)
    assert (move.after.attempts[-1].way, move.after.attempts[-1].slots) == (GRANT, ())
    for answer in (exits(None, cause=StopCause.cancel), declined(T0 + 9_000), is_lost()):
        ended = checked(move.after, answer(move.after))
        assert isinstance(ended.after.state, Storing)
        assert ended.after.state.ending.outcome is StateName.canceled
        assert ended.settled is not None
        assert settle(ended.after, ended.settled, PRICE).gpu_ms == 0


def test_a_cancel_that_came_after_the_node_had_begun_it() -> None:
    run = went(ahead(), stop(StopCause.cancel), taken(now=T0 + 6_000), begun(T0 + 1_500, T0 + 6_000))
    assert isinstance(run.state, Stopping)
    assert run.attempts[-1].slots == (1,)
    ended = checked(run, exits(143, cause=StopCause.cancel)(run))
    assert ended.settled is not None
    assert settle(ended.after, ended.settled, PRICE).gpu_ms == 8_000


def test_a_fence_burns_the_attempt_as_which_it_may_have_begun() -> None:
    run = ahead()
    move = checked(run, lifecycle.lost(run, 1, Reason.node_lost, "away", POLICY, T0 + 9_000))
    assert isinstance(move.after.state, Waiting)
    assert move.after.state.granted_to is None
    assert move.after.state.not_before_ms > T0 + 9_000
    assert move.settled is not None
    assert (move.settled.number, settle(move.after, move.settled, PRICE).gpu_ms) == (1, 0)
    assert lifecycle.taken(move.after, "node-1", 1, (0,), T0 + 9_500, T0 + 9_500) is None
    assert lifecycle.lost(run, 2, Reason.node_lost, "", POLICY, T0) is None


def test_its_staging_cannot_fail_any_more() -> None:
    assert lifecycle.staging_failed(ahead(), Reason.data_not_found, "", T0 + 700) is None


@pytest.mark.parametrize("cause", [StopCause.preempt, StopCause.time_limit, StopCause.fenced, StopCause.disk_limit])
def test_what_was_meant_for_a_program_does_not_reach_it(cause: StopCause) -> None:
    assert stop(cause)(ahead()) is None


def moves_of(run: Run, *facts: Fact) -> list[Transition]:
    found: list[Transition] = []
    for fact in facts:
        found.append(checked(run, fact(run)))
        run = found[-1].after
    return found


def test_steps_told_at_once_are_one_change_with_all_events_and_the_last_command() -> None:
    run = ahead()
    steps = moves_of(run, taken(), begun(), exits(0), stored())
    (one,) = folded(steps)
    assert (one.before, one.after) == (run, steps[-1].after)
    assert one.events == tuple(event for step in steps for event in step.events)
    assert one.commands == (Command.release,), "nothing is to be stored any more"
    assert one.settled == steps[2].settled
    (unstored,) = folded(steps[:3])
    assert unstored.commands == (Command.store,)
    (running,) = folded(steps[:2])
    assert isinstance(running.after.state, Running)
    assert folded(steps[:1]) == (steps[0],)


def test_a_launch_of_one_that_has_ended_is_not_ordered() -> None:
    run = went(new_run(), staged())
    (one,) = folded(moves_of(run, assign(), begun(), is_lost()))
    assert isinstance(one.after.state, Waiting)
    assert one.commands == ()


def test_steps_that_settle_two_attempts_stay_apart() -> None:
    run = went(new_run(), staged())
    steps = moves_of(run, assign(), is_lost(now=T0 + 2_000), assign(T0 + 9_000), is_lost(now=T0 + 9_500))
    assert folded(steps) == tuple(steps)
