"""What a submission is told before it is made."""

from __future__ import annotations

from runyard.core.budget import Budget, Period
from runyard.core.resources import Price
from runyard.engine import dispatch, intake, shares
from runyard.engine.preview import PreviewView, preview
from runyard.engine.world import Rules
from tests.engine.yard import ACME, Yard, manifest


def told(yard: Yard, extra: str = "", runs: int = 1) -> PreviewView:
    request = intake.Request(manifest(extra=extra), parameters=({},) * runs)
    return preview(yard.world, ACME, intake.examine(yard.world, ACME, request), None)


def test_where_there_is_room_it_starts_now(yard: Yard) -> None:
    found = told(yard)
    assert (found.starts, found.machine, found.ahead, found.earliest) == ("now", "n1", 0, found.latest)
    assert (found.readiness, found.cost_expected, found.cost_most) == (None, None, None)
    assert yard.fakes.store.waiting_page(None, 9) == []


def test_where_there_is_none_it_says_why_and_how_many_are_ahead(yard: Yard) -> None:
    runs = yard.submit(parameters=({},) * 4)
    yard.staged(runs[0])
    dispatch.dispatch(yard.world)
    found = told(yard)
    assert (found.starts, found.ahead) == ("later", 2)
    assert found.readiness in ("capacity", "share")
    assert found.sentence
    yard.fakes.clock.pass_by(10_000)
    yard.ends(runs[0])
    assert told(yard).earliest is not None, "a run of the account has told how long they take"


def test_a_budget_and_a_window_are_told_before(yard: Yard) -> None:
    assert told(yard, "runyard: {start_after: 2090-01-01T00:00}\n").readiness == "window"
    shares.set_budget(yard.world, "acme", Budget(Period.week, gpu_ms=0))
    found = told(yard)
    assert (found.starts, found.readiness) == ("later", "budget")
    assert "nothing new starts before" in found.sentence


def test_costs_are_of_all_runs(yard: Yard) -> None:
    yard.rules = Rules(price=Price(gpu_hour=3_600_000))
    yard.restart()
    yard.join()
    run = yard.running()
    yard.fakes.clock.pass_by(10_000)
    yard.ends(run)
    found = told(yard, "runyard: {max_runtime: 1m}\n", runs=3)
    assert (found.cost_expected, found.cost_most) == ("0.030000", "0.180000")


def test_what_a_machine_has_already_is_told(yard: Yard) -> None:
    assert (told(yard).code_at_hand, told(yard).environment_at_hand) == (True, False)
    yard.running()
    assert told(yard).environment_at_hand


def test_a_run_may_not_start_before_it_says(yard: Yard) -> None:
    run = yard.submit(manifest(extra="runyard: {start_after: 2090-01-01T00:00}\n"))[0]
    yard.staged(run)
    plan = dispatch.dispatch(yard.world)
    assert yard.run(run).attempts == ()
    assert plan.wake_at_ms == 3_786_912_000_000
    yard.fakes.clock.pass_by(plan.wake_at_ms - yard.now)
    dispatch.dispatch(yard.world)
    assert len(yard.run(run).attempts) == 1
