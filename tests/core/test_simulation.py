"""Days of a yard in milliseconds: everybody gets a turn, all runs end, and the bill never exceeds what was there."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from runyard.core.metering import LedgerEntry
from runyard.core.reasons import Reason
from runyard.core.resources import Resources
from runyard.core.run import StateName
from tests.core.builders import T0
from tests.core.yard import ONE, Job, Yard

MACHINE = Resources(4, 16_000, 64 * 1_024)


def yard(**changes: object) -> Yard:
    values: dict[str, object] = {"nodes": {"n1": MACHINE}, "quotas": {"acme": None, "brick": None, "coal": None}}
    return Yard(**(values | changes))  # type: ignore[arg-type]  # keyword arguments are not checked one by one


def test_equal_runs_start_in_the_order_they_came_though_a_plan_sees_few_of_them() -> None:
    jobs = [Job(at_ms=7 * n, account=("acme", "brick")[n % 2], lasts_ms=100 + 37 * (n % 5)) for n in range(60)]
    small = yard(heads=3)
    small.work(jobs)
    assert small.started == sorted(small.started)
    assert len(small.started) == 60
    assert small.all_final()


def test_a_big_run_is_not_starved_by_small_ones_that_never_stop_coming() -> None:
    crowd = [Job(at_ms=100 * n, lasts_ms=450) for n in range(400)]
    big = Job(at_ms=1_050, shape=replace(ONE, gpus=4), account="brick")
    place = yard()
    place.work([*crowd, big], until=60_000)
    (run,) = [run for run in place.runs.values() if run.account_id == "brick"]
    # Those that ran when it came have ended, and the few that had come before it have had their turn.
    assert run.attempts[0].assigned_ms <= T0 + 1_050 + 2 * 450
    assert place.all_final()


def test_cpu_work_goes_on_while_a_big_run_waits() -> None:
    blocker = Job(shape=replace(ONE, gpus=1), lasts_ms=10_000)
    big = Job(at_ms=10, shape=Resources(4, 4_000, 4_096), lasts_ms=1_000)
    light = [Job(at_ms=20 + n, shape=Resources(0, 1_000, 512), lasts_ms=50) for n in range(40)]
    place = yard()
    place.work([blocker, big, *light], until=9_000)
    done = [run for run in place.runs.values() if run.state_name is StateName.completed]
    assert len(done) == 40
    assert place.waits[next(run.id for run in place.runs.values() if run.resources.gpus == 4)] == "capacity"


def test_an_account_at_its_quota_holds_up_nobody_else() -> None:
    jobs = [Job(account="acme") for _ in range(20)] + [Job(at_ms=1, account="brick") for _ in range(4)]
    place = yard(quotas={"acme": 1, "brick": None})
    place.work(jobs, until=1)
    holding = sorted(run.account_id for run in place.runs.values() if run.state_name is StateName.running)
    assert holding == ["acme", "brick", "brick", "brick"]


def test_a_run_that_its_quota_held_back_has_its_turn_before_the_smaller_ones_behind_it() -> None:
    two = replace(ONE, gpus=2)
    first = [Job(lasts_ms=1_000), Job(lasts_ms=1_500)]
    place = yard(quotas={"acme": 2})
    place.work([*first, Job(at_ms=1, shape=two), *[Job(at_ms=2, lasts_ms=400) for _ in range(20)]])
    assert place.started[2] == "training-000000003"
    assert place.all_final()


def test_a_run_comes_back_after_its_machine_died_and_costs_nothing_for_it() -> None:
    place = yard()
    place.work([Job(ends=(None, None, 0), lasts_ms=1_000)])
    (run,) = place.runs.values()
    assert run.state_name is StateName.completed
    assert [(a.assigned_ms - T0, a.ending.reason) for a in run.attempts if a.ending is not None] == [
        (0, Reason.node_lost),
        (1_100, Reason.node_lost),
        (2_300, Reason.finished),
    ]
    assert [(entry.waste, entry.cost > 0, entry.gpu_ms) for entry in place.ledger] == [
        (True, False, 1_000),
        (True, False, 1_000),
        (False, True, 1_000),
    ]


# ------------------------------------------------------------------------------------------ by chance

jobs = st.builds(
    Job,
    at_ms=st.integers(0, 3_000),
    account=st.sampled_from(["acme", "brick", "coal"]),
    priority=st.sampled_from([50, 50, 50, 80]),
    shape=st.builds(Resources, st.sampled_from([0, 1, 1, 2]), st.sampled_from([500, 1_000, 4_000]), st.just(1_000)),
    node=st.sampled_from(["n1", "n2"]),
    lasts_ms=st.integers(1, 900),
    ends=st.lists(st.sampled_from([0, 0, 1, None]), min_size=1, max_size=3).map(tuple),
    max_retries=st.integers(0, 2),
)
yards = st.builds(
    Yard,
    nodes=st.fixed_dictionaries({"n1": st.just(MACHINE), "n2": st.just(Resources(2, 4_000, 8_000))}),
    quotas=st.fixed_dictionaries({"acme": st.just(None), "brick": st.integers(2, 4), "coal": st.just(2)}),
    heads=st.integers(1, 8),
)


@settings(max_examples=60)  # a whole simulation each
@given(yards, st.lists(jobs, min_size=1, max_size=40))
def test_all_runs_end_and_the_bill_never_exceeds_what_was_there(place: Yard, work: list[Job]) -> None:
    place.work(work)
    event(f"{len(place.started) // 20 * 20} starts or more")
    assert place.all_final()
    assert len(place.runs) == len(work)
    assert len(place.ledger) == sum(len(run.attempts) for run in place.runs.values()) == len(place.started)
    span = place.now - T0
    for name, total in place.nodes.items():
        here = [entry for entry in place.ledger if node_of(place, entry) == name]
        assert sum(entry.gpu_ms for entry in here) <= total.gpus * span
        assert sum(entry.cpu_ms for entry in here) <= total.cpu_millis * span // 1_000
        assert sum(entry.gb_ms for entry in here) <= total.memory_mib * span // 1_024
        for slot in range(total.gpus):
            assert_no_overlap([entry for entry in here if slot in slots_of(place, entry)])
    for name, quota in place.quotas.items():
        if quota is not None:
            assert sum(entry.gpu_ms for entry in place.ledger if entry.account_id == name) <= quota * span


@settings(max_examples=40)  # a whole simulation each
@given(st.lists(jobs, min_size=1, max_size=40), st.integers(1, 4))
def test_runs_of_one_shape_and_priority_start_in_the_order_they_came(work: list[Job], heads: int) -> None:
    place = yard(heads=heads)
    place.work([replace(job, priority=50, shape=ONE, node="n1", ends=(0,)) for job in work])
    assert place.started == sorted(place.started)
    assert len(place.started) == len(work)


@settings(max_examples=40)  # a whole simulation each
@given(st.lists(jobs, min_size=1, max_size=30))
def test_a_busy_yard_has_no_room_for_the_first_that_waits(work: list[Job]) -> None:
    """One machine, no quota, no faults: as long as somebody waits, the first of them does not fit."""
    calm = [replace(job, node="n1", ends=(0,), priority=50) for job in work]
    for moment in sorted({job.at_ms for job in calm}):
        step = yard()
        step.work(calm, until=moment)
        waiting = sorted(
            (run for run in step.runs.values() if run.state_name is StateName.waiting), key=lambda r: r.rank
        )
        if waiting:
            assert not waiting[0].resources.fits_in(step.snapshot().nodes[0].free)


def node_of(place: Yard, entry: LedgerEntry) -> str:
    return place.runs[entry.run_id].attempts[entry.attempt - 1].node_id


def slots_of(place: Yard, entry: LedgerEntry) -> tuple[int, ...]:
    return place.runs[entry.run_id].attempts[entry.attempt - 1].slots


def assert_no_overlap(entries: list[LedgerEntry]) -> None:
    for one, two in pairwise(sorted(entries, key=lambda entry: (entry.from_ms, entry.to_ms))):
        assert one.to_ms <= two.from_ms


def test_overlaps_would_be_seen() -> None:
    place = yard()
    place.work([Job(), Job()])
    assert [slots_of(place, entry) for entry in place.ledger] == [(0,), (1,)]
    with pytest.raises(AssertionError):
        assert_no_overlap(place.ledger)
