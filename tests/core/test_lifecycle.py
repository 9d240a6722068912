"""The life of a run as tables: every state and every fact, then the races one by one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import pytest

from runyard.core import lifecycle
from runyard.core.events import EventKind
from runyard.core.lifecycle import Command, Exit, RetryPolicy, Transition
from runyard.core.reasons import RULES, Fault, Reason
from runyard.core.run import (
    FINAL,
    TRANSITIONS,
    Ending,
    Finished,
    StateName,
    StopCause,
    Storing,
    Waiting,
    name_of,
)
from tests.core.builders import (
    POLICY,
    T0,
    Fact,
    assign,
    begun,
    checked,
    declined,
    dependency_fails,
    exits,
    goes_quiet,
    gpu_fails,
    granted,
    in_every_state,
    is_lost,
    is_stopped_for_it,
    loses_results,
    new_run,
    staged,
    staging_fails,
    stop,
    store_fails,
    stored,
    taken,
    unblocked,
    went,
)

PLATFORM = [r for r in Reason if RULES[r].fault is Fault.platform and r is not Reason.results_lost]
"""Those of attempts; what a run left behind is lost when its program has ended."""

FACTS: Mapping[str, Fact] = {
    "assign": assign(now=T0 + 9_000),
    "granted": granted(),
    "declined": declined(),
    "taken": taken(),
    "begun": begun(now=T0 + 9_000),
    "gpu_error": gpu_fails(),
    "quiet": goes_quiet(),
    "stop_quiet": is_stopped_for_it(),
    "ended 0": exits(0),
    "ended 1": exits(1),
    "ended preempt": exits(143, cause=StopCause.preempt),
    "lost": is_lost(),
    "staged": staged(),
    "unblocked": unblocked(),
    "dependency_failed": dependency_fails(),
    "staging_failed": staging_fails(),
    "stored": stored(),
    "store_failed": store_fails(),
    "store_failed denied": store_fails(denied=True),
    "results_lost": loses_results(),
    "stop cancel": stop(StopCause.cancel),
    "stop prune": stop(StopCause.prune),
    "stop time_limit": stop(StopCause.time_limit),
    "stop disk_limit": stop(StopCause.disk_limit),
    "stop idle": stop(StopCause.idle),
    "stop requeue": stop(StopCause.requeue),
    "stop preempt": stop(StopCause.preempt),
    "stop fenced": stop(StopCause.fenced),
}

MATRIX = """
fact                 waiting   starting  running   stopping  storing   completed  failed  canceled
assign               starting  .         .         .         .         .          .       .
granted              .         .         .         .         .         .          .       .
declined             .         .         .         .         .         .          .       .
taken                .         starting  .         .         .         .          .       .
begun                .         running   .         .         .         .          .       .
gpu_error            .         .         running   .         .         .          .       .
quiet                .         .         running   .         .         .          .       .
stop_quiet           .         .         stopping  .         .         .          .       .
ended 0              .         storing   storing   storing   .         .          .       .
ended 1              .         storing   storing   storing   .         .          .       .
ended preempt        .         waiting   waiting   waiting   .         .          .       .
lost                 .         waiting   waiting   waiting   .         .          .       .
staged               waiting   .         .         .         .         .          .       .
unblocked            .         .         .         .         .         .          .       .
dependency_failed    .         .         .         .         .         .          .       .
staging_failed       storing   .         .         .         .         .          .       .
stored               .         .         .         .         completed .          .       .
store_failed         .         .         .         .         storing   .          .       .
store_failed denied  .         .         .         .         storing   .          .       .
results_lost         .         .         .         .         failed    .          .       .
stop cancel          canceled  stopping  stopping  stopping  canceled  .          .       .
stop prune           canceled  stopping  stopping  stopping  .         .          .       .
stop time_limit      .         stopping  stopping  stopping  .         .          .       .
stop disk_limit      .         stopping  stopping  stopping  .         .          .       .
stop idle            .         stopping  stopping  stopping  .         .          .       .
stop requeue         .         stopping  stopping  stopping  .         .          .       .
stop preempt         .         stopping  stopping  .         .         .          .       .
stop fenced          .         stopping  stopping  .         .         .          .       .
"""
"""Each state (a run that is stopping makes room: preempt) and fact: the state that follows, a dot for a stale fact."""


def matrix() -> tuple[Sequence[str], Mapping[str, Mapping[str, str]]]:
    """The columns and, by fact, the cells of the matrix by state."""
    head, *lines = MATRIX.strip().splitlines()
    states = head.split()[1:]
    rows: dict[str, Mapping[str, str]] = {}
    for line in lines:
        words = line.split()
        cells = words[-len(states) :]
        rows[" ".join(words[: -len(states)])] = dict(zip(states, cells, strict=True))
    return states, rows


def fact_functions() -> set[str]:
    """The public functions of the life cycle that make a transition of a run."""
    return {
        name
        for name, function in inspect.getmembers(lifecycle, inspect.isfunction)
        if function.__module__ == lifecycle.__name__
        and not name.startswith("_")
        and "Transition" in str(inspect.signature(function).return_annotation)
    }


def test_the_matrix_has_a_line_for_every_fact_and_a_column_for_every_state() -> None:
    states, rows = matrix()
    assert states == [state.value for state in StateName]
    assert list(rows) == list(FACTS)
    assert {name.split()[0] for name in FACTS} == fact_functions()
    assert {name.split()[1] for name in FACTS if name.startswith("stop ")} == {cause.value for cause in StopCause}


@pytest.mark.parametrize("fact", FACTS)
@pytest.mark.parametrize("state", StateName)
def test_every_state_meets_every_fact(state: StateName, fact: str) -> None:
    run = in_every_state()[state]
    assert run.state_name is state
    transition = FACTS[fact](run)
    expected = matrix()[1][fact][state.value]
    if expected == ".":
        assert transition is None
    else:
        assert checked(run, transition).after.state_name == expected


def test_the_transition_table_has_exactly_the_arrows_that_facts_draw() -> None:
    evidence_only = went(new_run(), staging_fails())
    canceled_early = went(new_run(), assign(), stop(StopCause.cancel))
    program_failed = went(new_run(), assign(), begun(), exits(1))
    ahead = went(new_run(), staged(), granted())
    runs = [*in_every_state().values(), evidence_only, canceled_early, program_failed, ahead]
    drawn = {
        (run.state_name, transition.after.state_name)
        for run in runs
        for fact in FACTS.values()
        if (transition := fact(run)) is not None
    }
    assert drawn == {(start, end) for start, ends in TRANSITIONS.items() for end in ends}
    assert set(TRANSITIONS) == set(StateName)
    assert {state for state, ends in TRANSITIONS.items() if not ends} == FINAL


@pytest.mark.parametrize(
    ("state", "fact", "commands", "kinds"),
    [
        ("waiting", "assign", "launch", "assigned"),
        ("waiting", "staged", "", "staged"),
        ("waiting", "staging_failed", "store", "staging_problem storing"),
        ("waiting", "stop cancel", "", "finished"),
        ("starting", "begun", "", "running"),
        ("starting", "stop cancel", "stop", "stopping"),
        ("running", "stop time_limit", "stop", "stopping"),
        ("running", "ended 0", "store", "attempt_ended storing"),
        ("running", "lost", "", "attempt_ended requeued"),
        ("stopping", "stop cancel", "stop", "stopping"),
        ("stopping", "ended preempt", "", "attempt_ended requeued"),
        ("storing", "stored", "release", "finished"),
        ("storing", "store_failed", "", "store_problem"),
        ("storing", "stop cancel", "stop_storing release", "finished"),
    ],
)
def test_commands_and_events_of_a_transition(state: str, fact: str, commands: str, kinds: str) -> None:
    run = in_every_state()[StateName(state)]
    transition = checked(run, FACTS[fact](run))
    assert transition.commands == tuple(Command(word) for word in commands.split())
    assert [event.kind for event in transition.events] == [EventKind(word) for word in kinds.split()]


# ------------------------------------------------------------------------------------------ the whole way, once


def test_a_run_that_goes_well() -> None:
    run = went(new_run(), staged(), assign(), begun(), exits(0, log_bytes=77, tamper_proof=True, peak_memory_mib=9))
    assert run.state == Storing(Ending(StateName.completed, Reason.finished, 0))
    attempt = run.attempts[0]
    assert (attempt.number, attempt.node_id, attempt.slots) == (1, "node-1", (0,))
    assert (attempt.assigned_ms, attempt.started_ms, attempt.released_ms) == (T0 + 1_000, T0 + 2_000, T0 + 9_000)
    assert (attempt.log_bytes, attempt.tamper_proof, attempt.peak_memory_mib) == (77, True, 9)
    run = went(run, stored())
    assert run.state == Finished(Ending(StateName.completed, Reason.finished, 0))
    assert (run.ready_on, run.staged_ms) == ("node-1", T0 + 500)
    assert (run.finished_ms, run.stored_ms) == (T0 + 9_000, T0 + 10_000)
    assert run.version == 6


def test_the_last_event_says_how_it_ended_and_what_was_stored() -> None:
    run = went(new_run(), assign(), begun(), exits(3))
    transition = checked(run, stored()(run))
    assert transition.events[0].body == {
        "state": "failed",
        "reason": "nonzero_exit",
        "fault": "user",
        "exit_code": 3,
        "objects": 3,
        "bytes": 4_096,
    }


# ------------------------------------------------------------------------------------------ retries within budgets

RETRIES = [
    # max_retries, ends of the attempts in order, states after each
    ("the user's fault ends it", 0, "user", "storing"),
    ("unless max_retries says otherwise", 2, "user user user", "waiting waiting storing"),
    ("the platform has a budget of two", 0, "platform platform platform", "waiting waiting storing"),
    ("the budgets do not mix", 1, "platform user platform user", "waiting waiting waiting storing"),
    ("whichever is used up ends it", 1, "user platform platform platform", "waiting waiting waiting storing"),
    ("making room costs no budget", 0, "preempt preempt preempt user", "waiting waiting waiting storing"),
    ("nor does it restore one", 0, "platform preempt platform platform", "waiting waiting waiting storing"),
    ("success ends it", 5, "user done", "waiting storing"),
    ("a time limit is the user's", 1, "limit limit", "waiting storing"),
    ("a pruned run does not come back", 5, "pruned", "storing"),
    ("a failed launch is the platform's", 0, "launch launch launch", "waiting waiting storing"),
]

ENDS: Mapping[str, Fact] = {
    "done": exits(0),
    "user": exits(1),
    "platform": is_lost(),
    "preempt": exits(143, cause=StopCause.preempt),
    "limit": exits(143, cause=StopCause.time_limit),
    "pruned": exits(143, cause=StopCause.prune),
    "launch": exits(None, launch_error="no such interpreter"),
}


@pytest.mark.parametrize(("max_retries", "ends", "states"), [pytest.param(*r[1:], id=r[0]) for r in RETRIES])
def test_attempts_follow_within_their_budgets(max_retries: int, ends: str, states: str) -> None:
    run = new_run(max_retries=max_retries)
    seen: list[str] = []
    for end in ends.split():
        run = went(run, assign(), ENDS[end])
        seen.append(run.state_name.value)
    assert seen == states.split()
    assert [a.number for a in run.attempts] == list(range(1, len(seen) + 1))


def test_backoff_doubles_after_each_fault_of_the_platform_and_is_capped() -> None:
    policy = RetryPolicy(platform_attempts=6, first_backoff_ms=1_000, longest_backoff_ms=10_000)
    run, waits = new_run(), list[int]()
    for _ in range(6):
        run = went(run, assign(), is_lost(policy=policy))
        assert isinstance(run.state, Waiting)
        waits.append(run.state.not_before_ms - (T0 + 9_000))
    assert waits == [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]
    assert policy.backoff_ms(10**9) == 10_000


def test_backoff_counts_the_platforms_faults_alone() -> None:
    run = went(new_run(max_retries=1), assign(), ENDS["preempt"], assign(), ENDS["user"], assign(), ENDS["platform"])
    assert isinstance(run.state, Waiting)
    assert run.state.not_before_ms == T0 + 9_000 + POLICY.first_backoff_ms


@pytest.mark.parametrize("end", ["user", "preempt"])
def test_no_backoff_where_the_platform_did_nothing_wrong(end: str) -> None:
    run = went(new_run(max_retries=1), assign(), ENDS[end])
    assert isinstance(run.state, Waiting)
    assert run.state.not_before_ms == T0 + 9_000
    assert run.state.previous == run.attempts[-1].ending
    assert run.finished_ms is None


@pytest.mark.parametrize("reason", PLATFORM)
def test_every_fault_of_the_platform_is_tried_again(reason: Reason) -> None:
    assert went(new_run(), assign(), is_lost(reason)).state_name is StateName.waiting


# ------------------------------------------------------------------------------------------ fencing


@pytest.mark.parametrize("number", [0, 1, 3])
def test_only_the_current_attempt_is_listened_to(number: int) -> None:
    second = went(new_run(), assign(), is_lost(), assign())
    running = went(second, begun())
    record = Exit(T0 + 9_000, 0, None)
    for run in (second, running):
        assert lifecycle.begun(run, number, T0 + 9_000, T0 + 9_000) is None
        assert lifecycle.ended(run, number, record, POLICY, T0 + 9_000) is None
        assert lifecycle.lost(run, number, Reason.shim_lost, "", POLICY, T0 + 9_000) is None


def test_a_fenced_attempt_is_silent_while_its_run_waits_again() -> None:
    run = went(new_run(), assign(), begun(), is_lost())
    assert exits(0)(run) is None
    assert begun()(run) is None
    assert is_lost()(run) is None


def test_what_is_said_twice_changes_nothing() -> None:
    assert staged()(went(new_run(), staged())) is None
    assert begun()(went(new_run(), assign(), begun())) is None
    assert exits(0)(went(new_run(), assign(), exits(0))) is None


# ------------------------------------------------------------------------------------------ staging and storing


def test_a_failed_staging_stores_its_evidence_and_holds_no_slot() -> None:
    run = went(new_run(), staging_fails())
    assert run.state == Storing(Ending(StateName.failed, Reason.data_not_found, detail="no bucket of that name"))
    assert run.attempts == ()
    assert run.finished_ms == T0 + 500
    assert went(run, stored()).state_name is StateName.failed


def test_evidence_that_a_store_refuses_is_not_waited_for() -> None:
    run = went(new_run(), staging_fails(), store_fails())
    assert run.state_name is StateName.storing
    run = went(run, store_fails(denied=True))
    assert isinstance(run.state, Finished)
    assert run.state_name is StateName.failed
    assert "connection refused" in run.state.note


def test_results_of_a_program_are_stored_for_as_long_as_it_takes() -> None:
    run = went(new_run(), assign(), begun(), exits(0))
    for tries in range(1, 6):
        run = went(run, store_fails(denied=True))
        assert isinstance(run.state, Storing)
        assert (run.state.tries, run.state.problem) == (tries, "connection refused")
    assert went(run, stored()).state_name is StateName.completed


def test_results_that_are_lost_are_not_waited_for() -> None:
    """What ended well has failed, by nobody's fault but ours; it is not begun again, and its bill stands."""
    run = went(new_run(), assign(), begun(), exits(0), store_fails())
    moved = checked(run, loses_results()(run))
    assert moved.commands == (lifecycle.Command.release,)
    assert moved.settled is None
    assert moved.after.state == Finished(
        Ending(StateName.failed, Reason.results_lost, exit_code=0, detail="The folder is gone.")
    )
    assert moved.after.stored_ms is None
    assert moved.after.finished_ms == run.finished_ms
    assert RULES[Reason.results_lost].fault is Fault.platform


@pytest.mark.parametrize("state", [StateName.failed, StateName.canceled])
def test_what_did_not_end_well_ends_as_it_was_to_without_its_results(state: StateName) -> None:
    ended = exits(1) if state is StateName.failed else exits(143, cause=StopCause.cancel)
    steps = () if state is StateName.failed else (stop(StopCause.cancel),)
    run = went(new_run(), assign(), begun(), *steps, ended)
    assert isinstance(run.state, Storing)
    final = went(run, loses_results())
    assert isinstance(final.state, Finished)
    assert final.state.ending == run.state.ending
    assert final.state_name is state
    assert "lost before all of it was stored: The folder is gone." in final.state.note


# ------------------------------------------------------------------------------------------ times


@pytest.mark.parametrize(
    ("at_ms", "now", "started"),
    [(T0 + 1_500, T0 + 2_000, T0 + 1_500), (T0, T0 + 2_000, T0 + 1_000), (T0 + 9_999, T0 + 2_000, T0 + 2_000)],
    ids=["as the node says", "not before the slot was assigned", "not after now"],
)
def test_the_start_is_clipped(at_ms: int, now: int, started: int) -> None:
    run = went(new_run(), assign(now=T0 + 1_000), begun(at_ms, now))
    assert run.attempts[-1].started_ms == started


@pytest.mark.parametrize(
    ("began", "at_ms", "released"),
    [
        pytest.param(True, T0 + 8_000, T0 + 8_000, id="as the node says"),
        pytest.param(True, T0 + 1_500, T0 + 2_000, id="not before the start"),
        pytest.param(False, T0, T0 + 1_000, id="not before the slot was assigned"),
        pytest.param(True, T0 + 99_999, T0 + 9_000, id="not after now"),
    ],
)
def test_the_release_is_clipped(began: bool, at_ms: int, released: int) -> None:
    run = went(new_run(), assign(now=T0 + 1_000))
    run = went(run, begun(T0 + 2_000)) if began else run
    run = went(run, exits(0, at_ms=at_ms))
    assert (run.attempts[-1].released_ms, run.finished_ms) == (released, released)


def test_the_name_of_an_end_is_its_outcome() -> None:
    for outcome in FINAL:
        assert name_of(Finished(Ending(outcome, Reason.finished))) is outcome


def test_transitions_are_values() -> None:
    one = checked(run := new_run(), assign()(run))
    assert one == Transition(run, one.after, one.events, (Command.launch,))


def test_a_gpu_error_is_told_once_and_what_fails_after_it_is_the_platforms_fault() -> None:
    running = in_every_state()[StateName.running]
    told = checked(running, gpu_fails()(running))
    assert [event.kind for event in told.events] == [EventKind.gpu_error]
    assert told.events[0].body == {"detail": "GPU 0 reported XID 79."}
    assert gpu_fails()(told.after) is None, "it was told before"
    record = Exit(T0 + 4_000, 1, None, gpu_error="GPU 0 reported XID 79.")
    again = checked(told.after, lifecycle.ended(told.after, 1, record, POLICY, T0 + 5_000)).after
    assert isinstance(again.state, Waiting)
    assert again.attempts[0].ending == Ending(StateName.failed, Reason.gpu_failed, 1, detail="GPU 0 reported XID 79.")
    assert not RULES[Reason.gpu_failed].billed


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (Exit(T0, 0, None, gpu_error="It failed."), Reason.finished),
        (Exit(T0, 143, None, StopCause.cancel, gpu_error="It failed."), Reason.canceled),
        (Exit(T0, None, 9, oom_kills=1, gpu_error="It failed."), Reason.out_of_memory),
        (Exit(T0, None, 7, gpu_error="It failed."), Reason.gpu_failed),
    ],
    ids=["went on to its end", "canceled", "out of memory", "killed"],
)
def test_not_every_end_after_a_gpu_error_comes_of_it(record: Exit, reason: Reason) -> None:
    ending = lifecycle.judge(record)
    assert (ending.reason, ending.detail) == (reason, "It failed." if reason is Reason.gpu_failed else "")
