"""What people do to runs and queues."""

import pytest

from runyard.core.errors import Conflict, NotFound, Refused, StoreUnavailable
from runyard.core.run import Finished, StateName
from runyard.engine import control
from runyard.ports.logs import LogKey
from runyard.testing.fakes import Release, Stop, StopStoring
from tests.engine.yard import OTHER, Yard, manifest


def test_cancel_of_a_waiting_run_is_final_at_once(yard: Yard) -> None:
    run = yard.submit()[0]
    assert control.cancel(yard.world, "acme", run).state_name is StateName.canceled
    assert yard.fakes.executor.take() == []


def test_cancel_of_a_program_orders_the_stop_once(yard: Yard) -> None:
    run = yard.running(manifest(extra="runyard: {grace: 7s}\n"))
    yard.fakes.executor.take()
    assert control.cancel(yard.world, "acme", run).state_name is StateName.stopping
    assert control.cancel(yard.world, "acme", run).state_name is StateName.stopping
    given = yard.fakes.executor.take()
    assert [(each.run_id, each.grace_ms) for each in given if isinstance(each, Stop)] == [(run, 7000)]


def test_cancel_while_storing_keeps_what_is_stored_and_says_so(yard: Yard) -> None:
    run = yard.storing()
    yard.fakes.executor.take()
    state = control.cancel(yard.world, "acme", run).state
    assert isinstance(state, Finished)
    assert "what was stored by then is kept" in state.note
    assert yard.fakes.executor.take() == [StopStoring("n1", run), Release("n1", run)]


def test_cancel_of_a_final_run_changes_nothing(yard: Yard) -> None:
    run = yard.finished()
    before = yard.run(run)
    assert control.cancel(yard.world, "acme", run) == before


def test_many_are_canceled_at_once_and_in_their_order(yard: Yard) -> None:
    done, running = yard.finished(), yard.running()
    waiting = yard.submit(parameters=tuple({"lr": n} for n in range(700)), text=manifest(command="x {lr}"))
    foreign = yard.submit(who=OTHER)[0]
    asked = [waiting[3], foreign, running, *waiting[4:], "training-unknown00", done]
    yard.fakes.executor.take()
    found = control.cancel_many(yard.world, "acme", asked)
    assert [run.id for run in found] == [waiting[3], running, *waiting[4:], done]
    assert {run.state_name.value for run in found if run.id in waiting} == {"canceled"}
    assert (yard.run(running).state_name.value, yard.run(done).state_name.value) == ("stopping", "completed")
    assert yard.run(foreign).state_name is StateName.waiting
    assert [each.run_id for each in yard.fakes.executor.take() if isinstance(each, Stop)] == [running]
    states = frozenset({StateName.waiting, StateName.stopping})
    assert control.live_ids(yard.world, "acme", states) == [waiting[2], waiting[1], waiting[0], running]


@pytest.mark.parametrize("what", ["cancel", "delete", "move"])
def test_runs_of_others_are_not_there(yard: Yard, what: str) -> None:
    run = yard.submit()[0]
    with pytest.raises(NotFound):
        {
            "cancel": lambda: control.cancel(yard.world, "other", run),
            "delete": lambda: control.delete(yard.world, "other", run, with_results=False),
            "move": lambda: control.move(yard.world, "other", run, 1),
        }[what]()
    assert yard.run(run).state_name is StateName.waiting


@pytest.mark.parametrize("stage", ["submit", "starting", "running", "storing"])
def test_only_final_runs_can_be_deleted(yard: Yard, stage: str) -> None:
    run = yard.submit()[0] if stage == "submit" else getattr(yard, stage)()
    with pytest.raises(Conflict, match="cancel it first"):
        control.delete(yard.world, "acme", run, with_results=True)
    assert yard.run(run) is not None


def test_delete_takes_record_and_logs_and_leaves_ledger_and_results(yard: Yard) -> None:
    run = yard.finished()
    key = LogKey(run, 1)
    yard.fakes.logs.append(key, 0, b"text", yard.now)
    yard.fakes.objects.put("acme", "results", **{f"{run}/model/a": b"1"})
    control.delete(yard.world, "acme", run, with_results=False)
    assert yard.fakes.store.run(run) is None
    assert yard.fakes.logs.size(key) == 0
    assert len(yard.fakes.store.ledger(run)) == 1
    assert yard.fakes.objects.buckets["acme", "results"] == {f"{run}/model/a": b"1"}


def test_delete_with_results_takes_those_of_this_run_alone(yard: Yard) -> None:
    run = yard.finished()
    yard.fakes.objects.put("acme", "results", **{f"{run}/model/a": b"1", f"{run}_0/model/a": b"2", "x": b"3"})
    control.delete(yard.world, "acme", run, with_results=True)
    assert sorted(yard.fakes.objects.buckets["acme", "results"]) == sorted([f"{run}_0/model/a", "x"])


def test_delete_with_results_keeps_the_record_when_the_store_is_down(yard: Yard) -> None:
    run = yard.finished()
    yard.fakes.objects.fails = StoreUnavailable("Nobody answers.", code="store_unreachable")
    with pytest.raises(StoreUnavailable):
        control.delete(yard.world, "acme", run, with_results=True)
    assert yard.run(run).state_name is StateName.completed


def test_move(yard: Yard) -> None:
    runs = yard.submit(parameters=({},) * 4)
    control.move(yard.world, "acme", runs[3], 1)
    control.move(yard.world, "acme", runs[0], 99)
    page = [run.id for run in yard.fakes.store.waiting_page("acme", 10)]
    assert page == [runs[3], runs[1], runs[2], runs[0]]
    with pytest.raises(Refused, match="count from 1"):
        control.move(yard.world, "acme", runs[0], 0)


def test_only_waiting_runs_can_be_moved(yard: Yard) -> None:
    with pytest.raises(Conflict, match="is running: only waiting runs"):
        control.move(yard.world, "acme", yard.running(), 1)


def test_quota_and_pause_of_accounts_that_are_not_there(yard: Yard) -> None:
    with pytest.raises(NotFound):
        control.set_quota(yard.world, "nobody", 1)
    with pytest.raises(NotFound):
        control.pause(yard.world, "nobody", True)
    with pytest.raises(Refused, match="0 or more"):
        control.set_quota(yard.world, "acme", -1)
