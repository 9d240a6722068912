"""Code and data become ready: once for all runs of a submission, and what fails leaves its evidence."""

import pytest

from runyard.core.events import EventKind
from runyard.core.reasons import Reason
from runyard.core.run import Finished, StateName, Storing
from runyard.engine import control, dispatch, stage
from runyard.ports.executor import LaunchRequest, StageRequest, StoreRequest
from runyard.ports.logs import LogKey
from runyard.ports.objects import Checked, Verdict
from tests.engine.yard import SECRET, Yard, manifest


def spec_of(yard: Yard, run_id: str) -> int:
    return yard.run(run_id).spec_id


def evidence(yard: Yard, run_id: str) -> str:
    return yard.fakes.logs.read(LogKey(run_id, 0, stream="load-data"), 0, 10_000).decode()


def forced(yard: Yard, count: int = 1) -> tuple[str, ...]:
    """Runs whose data are not looked at before they are accepted."""
    return yard.submit(manifest(data="data", kind="s3"), parameters=({},) * count, force=True)


def test_one_listing_and_one_order_for_all_runs(yard: Yard) -> None:
    yard.fakes.objects.put("acme", "data", a=b"1", b=b"22")
    runs = forced(yard, 20)
    yard.fakes.objects.seen.clear()
    for _ in range(3):
        stage.stage(yard.world, spec_of(yard, runs[0]))
    order = yard.fakes.executor.of(StageRequest)
    assert len(order) == len(yard.fakes.objects.seen) == 1
    assert [(entry.key, entry.size) for entry in order[0].data[0].entries] == [("a", 1), ("b", 2)]
    assert order[0].data[0].credentials is not None
    assert order[0].data[0].credentials.secret_access_key == SECRET
    assert SECRET not in repr(order)
    assert stage.staged(yard.world, "n1", spec_of(yard, runs[0]), 3)
    assert {yard.run(run).ready_on for run in runs} == {"n1"}
    told = [each.event for each in yard.fakes.store.events(0, 100, run_id=runs[-1])]
    assert [event.body["fetched"] for event in told if event.kind is EventKind.staged] == [3]
    assert not stage.staged(yard.world, "n1", spec_of(yard, runs[0])), "nothing new the second time"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Checked(Verdict.not_found, "No such bucket."), Reason.data_not_found),
        (Checked(Verdict.denied, "Wrong key."), Reason.data_access_denied),
    ],
)
def test_a_definite_no_fails_all_runs_with_the_evidence(yard: Yard, answer: Checked, reason: Reason) -> None:
    yard.fakes.objects.says["data"] = answer
    runs = forced(yard, 1200)
    stage.stage(yard.world, spec_of(yard, runs[0]))
    ended = [yard.run(run).state for run in runs]
    assert all(isinstance(state, Storing) and state.ending.reason is reason for state in ended)
    assert evidence(yard, runs[-1]) == f"s3 bucket data: {answer.message}\n"
    orders = yard.fakes.executor.of(StoreRequest)
    assert len(orders) == 1200
    assert {(order.attempt, order.evidence) for order in orders} == {(0, f"s3 bucket data: {answer.message}\n")}
    assert not yard.world.ready.asked(spec_of(yard, runs[0]))


def test_an_empty_bucket_is_data_not_found(yard: Yard) -> None:
    yard.fakes.objects.put("acme", "data")
    run = forced(yard)[0]
    stage.stage(yard.world, spec_of(yard, run))
    assert "There is no object in s3 bucket data" in evidence(yard, run)


def test_an_unreachable_store_is_tried_again_with_growing_pauses_then_fails(yard: Yard) -> None:
    yard.fakes.objects.says["data"] = Checked(Verdict.unreachable, "Nobody answers.")
    run = forced(yard)[0]
    spec, pauses = spec_of(yard, run), list[int]()
    for _ in range(yard.rules.stage_attempts - 1):
        stage.stage(yard.world, spec)
        assert yard.run(run).state_name is StateName.waiting
        pauses.append(yard.world.ready.due_ms(spec) - yard.now)
        yard.fakes.clock.pass_by(pauses[-1])
    assert pauses == [1000, 2000, 4000, 8000]
    stage.stage(yard.world, spec)
    state = yard.run(run).state
    assert isinstance(state, Storing)
    assert state.ending.reason is Reason.data_unreachable
    assert yard.world.ready.due_ms(spec) == 0


def test_a_store_that_comes_back_is_forgiven(yard: Yard) -> None:
    yard.fakes.objects.says["data"] = Checked(Verdict.unreachable, "Nobody answers.")
    run = forced(yard)[0]
    stage.stage(yard.world, spec_of(yard, run))
    yard.fakes.objects.says.clear()
    yard.fakes.objects.put("acme", "data", a=b"1")
    yard.staged(run)
    assert yard.run(run).ready_on == "n1"
    assert yard.world.ready.due_ms(spec_of(yard, run)) == 0


def test_what_breaks_while_planning_is_tried_again_and_ends_as_the_platforms_fault(yard: Yard) -> None:
    run, well = forced(yard)[0], yard.submit()[0]
    yard.fakes.vault.lose_key()
    for _ in range(yard.rules.stage_attempts):
        stage.stage(yard.world, spec_of(yard, run))
        yard.staged(well) if yard.run(well).ready_on is None else None
        yard.fakes.clock.pass_by(60_000)
    state = yard.run(run).state
    assert isinstance(state, Storing)
    assert state.ending.reason is Reason.staging_failed
    assert yard.run(well).ready_on == "n1", "another submission is not harmed"


def test_the_platforms_fault_at_a_node_is_tried_again(yard: Yard) -> None:
    run = yard.submit()[0]
    spec = spec_of(yard, run)
    for again in range(yard.rules.stage_attempts):
        assert yard.run(run).state_name is StateName.waiting, again
        stage.stage(yard.world, spec)
        assert stage.failed(yard.world, "n1", spec, Reason.staging_failed, "The disk is full.", "no room\n")
    assert yard.run(run).state_name is StateName.storing
    assert evidence(yard, run) == "no room\n"


def test_a_users_fault_at_a_node_fails_at_once(yard: Yard) -> None:
    runs = yard.submit(parameters=({}, {}))
    stage.stage(yard.world, spec_of(yard, runs[0]))
    assert stage.failed(yard.world, "n1", spec_of(yard, runs[0]), Reason.code_invalid, "Not a zip.", "not a zip\n")
    assert {yard.run(run).state_name for run in runs} == {StateName.storing}
    kinds = [each.event.kind for each in yard.fakes.store.events(0, 100, run_id=runs[0])]
    assert kinds == [EventKind.accepted, EventKind.staging_problem, EventKind.storing]
    assert not stage.failed(yard.world, "n1", spec_of(yard, runs[0]), Reason.code_invalid, "Not a zip.", "")


def test_only_runs_that_are_not_ready_fail(yard: Yard) -> None:
    runs = yard.submit(parameters=({},) * 700)
    yard.staged(runs[0])
    world, last = yard.world, yard.run(runs[-1])
    dispatch.dispatch(world)  # two start
    held = yard.run(runs[0])
    yard.ends(held.id, None, launch_error="the code is gone")
    assert yard.run(held.id).ready_on is None
    control.move(world, "acme", held.id, 698)  # behind all that are ready
    assert stage.failed(world, "n1", held.spec_id, Reason.code_invalid, "Not a zip.", "x")
    assert yard.run(held.id).state_name is StateName.storing
    assert yard.run(last.id).state_name is StateName.waiting


def test_a_machine_that_has_it_is_not_asked_again(yard: Yard) -> None:
    run = yard.submit()[0]
    yard.restart()
    yard.join(staged=(spec_of(yard, run),))
    stage.stage(yard.world, spec_of(yard, run))
    assert yard.run(run).ready_on == "n1"
    assert yard.fakes.executor.of(StageRequest) == []


def test_without_a_machine_it_waits_and_is_asked_when_one_connects(yard: Yard) -> None:
    run = yard.submit()[0]
    yard.restart()
    stage.stage(yard.world, spec_of(yard, run))
    assert not yard.world.ready.asked(spec_of(yard, run))
    yard.join()
    stage.stage(yard.world, spec_of(yard, run))
    assert yard.fakes.executor.of(StageRequest)[0].node_id == "n1"


def test_a_machine_that_is_large_enough_is_chosen(yard: Yard) -> None:
    yard.join("a-small-one", gpus=0)
    run = yard.submit()[0]
    stage.stage(yard.world, spec_of(yard, run))
    assert yard.fakes.executor.of(StageRequest)[0].node_id == "n1"


def test_what_a_machine_lost_is_fetched_again_and_costs_no_attempt(yard: Yard) -> None:
    runs = yard.submit(parameters=({},) * 5)
    spec = spec_of(yard, runs[0])
    yard.staged(runs[0])
    yard.join()  # without the spec: it made room in its cache
    yard.fakes.executor.take()
    for _ in range(5):
        dispatch.dispatch(yard.world)
    assert yard.fakes.executor.of(LaunchRequest) == []
    assert {yard.run(run).ready_on for run in runs} == {None}
    yard.staged(runs[0])
    dispatch.dispatch(yard.world)
    assert len(yard.fakes.executor.of(LaunchRequest)) == 2
    assert all(len(yard.run(run).attempts) <= 1 for run in runs)
    assert spec_of(yard, runs[0]) == spec


def test_canceled_while_it_is_fetched(yard: Yard) -> None:
    run = yard.submit()[0]
    stage.stage(yard.world, spec_of(yard, run))
    control.cancel(yard.world, "acme", run)
    assert not stage.staged(yard.world, "n1", spec_of(yard, run))
    assert isinstance(yard.run(run).state, Finished)
