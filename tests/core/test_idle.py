"""Runs that do nothing: tables, and what holds whatever is seen in whatever order."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard.core import lifecycle
from runyard.core.events import EventKind
from runyard.core.idle import Course, IdleRule, Quiet, Signs, Then, begun, judge, rule_of, seen, sentence
from runyard.core.lifecycle import Exit
from runyard.core.reasons import Reason
from runyard.core.run import Finished, Run, Running, StateName, StopCause, Stopping, Storing, Waiting
from runyard.core.spec import Options
from tests.core.builders import POLICY, T0, assign, checked, in_every_state, stored, went
from tests.core.builders import begun as began

MINUTE = 60_000
AFTER = 5 * MINUTE
MOST = 3 * MINUTE


def course_of(*looks: tuple[int, int, int | None, int | None]) -> Course:
    """A course of looks, a minute apart: bytes of logs, of metrics, milliseconds of CPU, per cent of the GPUs."""
    first, *others = [Signs(n * MINUTE, *look) for n, look in enumerate(looks)]
    course = begun(first)
    for each in others:
        course = seen(course, each, MOST)
    return course


@pytest.mark.parametrize(
    ("looks", "kind"),
    [
        ([(0, 0, 10, 0)] * 6, Quiet.idle),
        ([(0, 0, 10, 0)] * 5, None),
        ([(0, 0, 10 + 100 * n, 0) for n in range(6)], Quiet.idle),
        ([(0, 0, 2_000 * n, 0) for n in range(9)], None),
        ([(0, 0, 10, 40)] * 9, None),
        ([(0, 0, 10, 40), *[(0, 0, 10, 0)] * 5], Quiet.hung),
        ([(700, 0, 10, 0)] * 6, Quiet.hung),
        ([(0, 0, 10, None), (0, 90, 10, None), *[(0, 90, 10, None)] * 5], Quiet.hung),
        ([(n, 0, None, None) for n in range(9)], None),
        ([(0, 0, None, None)] * 6, Quiet.idle),
        ([(0, 0, 900, 0), *[(0, 0, 10, 0)] * 4], None),
    ],
    ids=[
        "nothing", "not long enough", "threads that look at their clocks", "only computes", "only its GPU computes",
        "its GPU stopped", "logged once", "told metrics once", "logs", "nobody knows its CPU", "a process of it ended",
    ],
)  # fmt: skip
def test_what_counts_as_nothing(looks: list[tuple[int, int, int | None, int | None]], kind: Quiet | None) -> None:
    assert judge(course_of(*looks), AFTER) == kind
    assert judge(course_of(*looks), 0) is None, "nobody wants to know"


def test_time_in_which_nobody_looked_counts_little() -> None:
    course = begun(Signs(0, 0, 0, 10, 0))
    assert seen(course, Signs(600 * MINUTE, 0, 0, 10, 0), MOST).quiet_ms == MOST


def test_sentences() -> None:
    assert sentence(Quiet.hung, 31 * MINUTE) == (
        "Nothing more is seen of it (hung): no log, no metric, no CPU and no GPU use for 31 min."
    )
    assert sentence(Quiet.idle, 5_000).endswith("for 5 s.")


looks = st.lists(
    st.tuples(
        st.integers(0, 10 * MINUTE),  # since the look before
        st.integers(0, 2),  # of the log
        st.integers(0, 2),  # of the metrics
        st.one_of(st.none(), st.integers(-50, 3_000)),  # of the processors
        st.one_of(st.none(), st.integers(0, 2)),
    ),
    max_size=30,
)


@given(looks, st.integers(1, 20 * MINUTE))
def test_quiet_is_never_told_of_what_was_active_and_never_too_early(
    steps: list[tuple[int, int, int, int | None, int | None]], after_ms: int
) -> None:
    signs = Signs(0, 0, 0, 5_000, 0)
    course, last_active, worked = begun(signs), 0, False
    for elapsed, log, points, cpu, gpu in steps:
        cpu_ms = None if cpu is None or signs.cpu_ms is None else signs.cpu_ms + cpu
        signs = Signs(signs.at_ms + elapsed, signs.log + log, signs.points + points, cpu_ms, gpu)
        course = seen(course, signs, MOST)
        if log or points or gpu:
            last_active, worked = signs.at_ms, True
        assert course.quiet_ms <= signs.at_ms - last_active
        assert course.worked == worked
        kind = judge(course, after_ms)
        assert kind is None or signs.at_ms - last_active >= after_ms
        assert kind in (None, Quiet.hung if worked else Quiet.idle)


@given(st.integers(1, 50), st.integers(1, 3))
def test_a_program_that_does_nothing_is_found_by_the_first_look_after_its_time(minutes: int, every: int) -> None:
    course, at = begun(Signs(0, 3, 0, 10, 0)), 0
    while judge(course, minutes * MINUTE) is None:
        at += every * MINUTE
        course = seen(course, Signs(at, 3, 0, 10, 0), MOST)
    assert minutes * MINUTE <= at < (minutes + every) * MINUTE


# --------------------------------------------------------------------------------------------------- what follows


def quiet_running(kind: Quiet = Quiet.hung) -> Run:
    run = in_every_state()[StateName.running]
    return checked(run, lifecycle.quiet(run, 1, kind, T0 + 3_000, T0 + 4_000)).after


def test_it_is_told_once_and_so_is_that_it_does_something_again() -> None:
    run = in_every_state()[StateName.running]
    told = checked(run, lifecycle.quiet(run, 1, Quiet.hung, T0 + 3_000, T0 + 4_000))
    assert [event.kind for event in told.events] == [EventKind.quiet]
    assert told.after.state == Running(quiet="hung", quiet_since_ms=T0 + 3_000)
    assert lifecycle.quiet(told.after, 1, Quiet.hung, T0 + 9_000, T0 + 9_500) is None
    again = checked(told.after, lifecycle.quiet(told.after, 1, None, T0 + 9_000, T0 + 9_500))
    assert [event.kind for event in again.events] == [EventKind.active]
    assert again.after.state == Running()
    assert lifecycle.quiet(run, 2, Quiet.hung, T0, T0) is None, "another attempt"


@pytest.mark.parametrize(
    ("then", "cause"), [(Then.tell, None), (Then.requeue, StopCause.requeue), (Then.stop, StopCause.idle)]
)
def test_what_follows_is_the_rules_word(then: Then, cause: StopCause | None) -> None:
    run = quiet_running()
    follows = lifecycle.stop_quiet(run, IdleRule(1, then), T0 + 5_000)
    if cause is None:
        assert follows is None
        return
    state = checked(run, follows).after.state
    assert isinstance(state, Stopping)
    assert (state.cause, state.detail) == (cause, sentence(Quiet.hung, 2_000))
    assert lifecycle.stop_quiet(in_every_state()[StateName.running], IdleRule(1, then), T0) is None, "it is not quiet"


def test_it_waits_again_with_its_checkpoint_so_often_and_then_fails() -> None:
    rule = IdleRule(1, Then.requeue, requeues=2)
    run = in_every_state()[StateName.running]
    for number in (1, 2, 3):
        run = checked(run, lifecycle.quiet(run, number, Quiet.idle, T0, T0 + 5_000)).after
        run = checked(run, lifecycle.stop_quiet(run, rule, T0 + 5_000)).after
        assert isinstance(run.state, Stopping)
        record = Exit(T0 + 5_100, 143, None, run.state.cause)
        run = checked(run, lifecycle.ended(run, number, record, POLICY, T0 + 5_200)).after
        if number < 3:
            assert isinstance(run.state, Waiting)
            assert run.state.not_before_ms <= T0 + 5_200, "nobody's fault: no back-off"
            run = went(run, assign(now=T0 + 5_300), began(now=T0 + 5_400))
    assert isinstance(run.state, Storing)
    assert [each.ending.reason for each in run.attempts if each.ending] == [
        Reason.idle_requeued, Reason.idle_requeued, Reason.idle,
    ]  # fmt: skip
    assert "put back 2 times before" in run.state.ending.detail
    final = went(run, stored())
    assert isinstance(final.state, Finished)
    assert final.state_name is StateName.failed


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (Options(), IdleRule(7, Then.stop, 5)),
        (Options(idle_after_ms=0), IdleRule(0, Then.stop, 5)),
        (Options(idle_after_ms=9, idle_then="requeue"), IdleRule(9, Then.requeue, 5)),
        (Options(idle_then="tell"), IdleRule(7, Then.tell, 5)),
    ],
)
def test_the_manifest_has_the_last_word(options: Options, rule: IdleRule) -> None:
    assert rule_of(replace(options), IdleRule(7, Then.stop, 5)) == rule
