"""Budgets, shares, start windows and machines that are drained, as the engine carries them out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runyard.core import lifecycle
from runyard.core.budget import Budget, Period, end_of
from runyard.core.errors import Conflict, NotFound, Refused
from runyard.core.lifecycle import Exit, RetryPolicy
from runyard.core.reasons import Reason
from runyard.core.run import StateName, StopCause, Stopping, Waiting
from runyard.core.scheduling.plan import Plan, Preempt
from runyard.core.scheduling.snapshot import AccountRoom, Policy
from runyard.core.use import amount
from runyard.engine import control, dispatch, draining, queries, quotas, shares, supervise
from runyard.engine.seeing import snapshot
from runyard.engine.world import Rules
from runyard.ports.executor import LaunchRequest, StageRequest
from runyard.testing.fakes import Stop
from tests.engine.yard import OTHER, Yard, manifest

HOUR = 3_600_000


def launched(yard: Yard) -> list[str]:
    return [order.run_id for order in yard.fakes.executor.of(LaunchRequest)]


def an_account(yard: Yard, account_id: str = "acme") -> AccountRoom:
    return next(room for room in snapshot(yard.world, yard.now).accounts if room.id == account_id)


def test_what_runs_counts_as_used_and_goes_on_doing_so_when_it_ends(yard: Yard) -> None:
    run = yard.running()
    yard.fakes.clock.pass_by(HOUR)
    half_life = Policy().half_life_ms
    expected = amount(1.0, 0, HOUR, half_life)
    assert an_account(yard).used_ms == pytest.approx(expected)
    assert an_account(yard).used.gpus == 1
    yard.ends(run)
    assert an_account(yard).used_ms == pytest.approx(expected)
    yard.fakes.clock.pass_by(half_life)
    assert an_account(yard).used_ms == pytest.approx(expected / 2)
    assert an_account(yard, "other").used_ms == 0


def test_what_the_platform_has_lost_is_not_used(yard: Yard) -> None:
    run = yard.running()
    yard.fakes.clock.pass_by(HOUR)
    supervise.lost(yard.world, "n1", run, 1, Reason.shim_lost, "gone")
    assert an_account(yard).used_ms == 0


def test_a_run_without_gpus_counts_as_its_part_of_the_machine(yard: Yard) -> None:
    text = "name: small\ngpus: 0\ncpus: 4\nmemory: 100MiB\nlearners: 1\nframework: {command: 'true'}\n"
    text += "data_stores:\n- id: here\n  type: local\n  training_results: {container: results}\n"
    yard.running(text)  # half of 8 CPUs, of a machine with two slots
    yard.fakes.clock.pass_by(1000)
    assert an_account(yard).used_ms == pytest.approx(1000, rel=1e-3)


def test_a_budget_that_is_used_up_lets_nothing_start_until_its_period_ends(yard: Yard) -> None:
    shares.set_budget(yard.world, "acme", Budget(Period.week, gpu_ms=HOUR))
    first = yard.running()
    yard.fakes.clock.pass_by(HOUR - 1)
    assert an_account(yard).stopped is None
    yard.fakes.clock.pass_by(1)
    waiting = yard.submit()[0]
    yard.staged(waiting)
    dispatch.dispatch(yard.world)
    assert launched(yard) == [first]
    assert yard.run(first).state_name is StateName.running, "what runs goes on"
    shown = queries.explain(yard.world, yard.run(waiting))
    assert shown.readiness == "budget"
    assert "1 of 1 GPU-hours" in shown.sentence
    look = dispatch.Look.of(yard.world, yard.now)
    opens = end_of(Period.week, yard.now)
    assert shares.wakes_ms(yard.world, yard.now, look.parts, look.holdings) == opens
    yard.ends(first)
    assert an_account(yard).stopped is not None, "the bill says what the running attempt said"
    yard.fakes.clock.pass_by(opens - yard.now)
    dispatch.dispatch(yard.world)
    assert launched(yard) == [first, waiting]


def test_a_raised_budget_lets_runs_start_at_once(yard: Yard) -> None:
    shares.set_budget(yard.world, "acme", Budget(Period.month, gpu_ms=0))
    run = yard.submit()[0]
    yard.staged(run)
    dispatch.dispatch(yard.world)
    assert launched(yard) == []
    yard.bell.rung.clear()
    shares.set_budget(yard.world, "acme", None)
    assert "dispatch" in yard.bell.rung
    dispatch.dispatch(yard.world)
    assert launched(yard) == [run]


def test_one_accounts_budget_stops_nobody_else(yard: Yard) -> None:
    shares.set_budget(yard.world, "acme", Budget(Period.week, gpu_ms=0))
    mine, theirs = yard.submit()[0], yard.submit(who=OTHER)[0]
    yard.staged(mine)
    yard.staged(theirs)
    dispatch.dispatch(yard.world)
    assert launched(yard) == [theirs]


def test_who_submits_is_warned(yard: Yard) -> None:
    shares.set_budget(yard.world, "acme", Budget(Period.week, gpu_ms=10 * HOUR))
    yard.running()
    assert not any("budget" in note for note in yard.run(yard.submit()[0]).notes)
    yard.fakes.clock.pass_by(8 * HOUR)
    noted = yard.run(yard.submit()[0])
    assert any("80 % of the account's budget for this week" in note for note in noted.notes)
    view = quotas.quota(yard.world, "acme")
    assert view.budget is not None
    assert (view.budget.percent, view.budget.stopped, view.budget.spent_gpu_hours) == (80, False, 8.0)


def test_a_budget_of_money_counts_the_running(yard: Yard) -> None:
    price = replace(yard.rules.price, gpu_hour=2_000_000)
    yard.rules = Rules(price=price)
    yard.restart()
    yard.join()
    shares.set_budget(yard.world, "acme", Budget(Period.week, cost=3_000_000))
    run = yard.running()
    yard.fakes.clock.pass_by(HOUR)
    view = quotas.quota(yard.world, "acme").budget
    assert view is not None
    assert (view.spent_money, view.percent) == ("2.000000", 66)
    yard.fakes.clock.pass_by(HOUR)
    yard.ends(run)
    view = quotas.quota(yard.world, "acme").budget
    assert view is not None
    assert (view.spent_money, view.stopped) == ("4.000000", True)


def test_settings_that_make_no_sense(yard: Yard) -> None:
    with pytest.raises(Refused, match="GPU-hours"):
        shares.set_budget(yard.world, "acme", Budget(Period.week))
    with pytest.raises(Refused, match="weight"):
        shares.set_weight(yard.world, "acme", 0)
    with pytest.raises(Refused, match="22:00-06:00"):
        shares.set_window(yard.world, "acme", "noon")
    with pytest.raises(NotFound, match="accounts list"):
        shares.set_weight(yard.world, "nobody", 2)


def test_the_window_of_an_account(yard: Yard) -> None:
    minute = yard.now // 60_000 % 1440
    text = f"{(minute + 10) % 1440 // 60:02}:{(minute + 10) % 60:02}-{minute // 60:02}:{minute % 60:02}"
    shares.set_window(yard.world, "acme", text)
    run = yard.submit()[0]
    yard.staged(run)
    plan = dispatch.dispatch(yard.world)
    assert launched(yard) == []
    assert queries.explain(yard.world, yard.run(run)).readiness == "window"
    assert plan.wake_at_ms is not None
    yard.fakes.clock.pass_by(plan.wake_at_ms - yard.now)
    dispatch.dispatch(yard.world)
    assert launched(yard) == [run]


def test_nothing_starts_on_a_machine_that_is_drained(yard: Yard) -> None:
    running = yard.running()
    draining.drain(yard.world, "n1", preempt=False)
    run = yard.submit()[0]
    yard.staged(run)
    dispatch.dispatch(yard.world)
    assert launched(yard) == [running]
    shown = queries.explain(yard.world, yard.run(run))
    assert (shown.readiness, "nodes resume n1" in shown.sentence) == ("draining", True)
    yard.join(held=((running, 1),), staged=(yard.run(run).spec_id,))  # whatever it says
    dispatch.dispatch(yard.world)
    assert run not in launched(yard)
    draining.resume(yard.world, "n1")
    dispatch.dispatch(yard.world)
    assert run in launched(yard)


def test_a_drained_machine_makes_room_when_it_is_asked_to(yard: Yard) -> None:
    run = yard.running()
    draining.drain(yard.world, "n1", preempt=True)
    assert [(stop.run_id, stop.cause) for stop in yard.fakes.executor.of(Stop)] == [(run, StopCause.preempt)]
    yard.ends(run, None, signal=15, cause=StopCause.preempt)
    state = yard.run(run).state
    assert isinstance(state, Waiting)
    assert state.previous is not None
    assert "being drained" in state.previous.detail


def test_what_was_ready_on_a_drained_machine_is_made_ready_elsewhere(yard: Yard) -> None:
    run = yard.submit()[0]
    yard.staged(run)
    yard.join("n2")
    draining.drain(yard.world, "n1", preempt=False)
    assert yard.run(run).ready_on is None
    yard.staged(run, "n2")
    assert yard.fakes.executor.of(StageRequest)[-1].node_id == "n2"
    dispatch.dispatch(yard.world)
    assert yard.run(run).attempts[-1].node_id == "n2"


def test_a_machine_is_named_by_id_or_name(yard: Yard) -> None:
    yard.join("n2", name="big")
    yard.join("n3", name="big")
    assert draining.find(yard.world, "n2").id == "n2"
    with pytest.raises(Conflict, match="by its id"):
        draining.drain(yard.world, "big", preempt=False)
    with pytest.raises(NotFound, match="nodes list"):
        draining.resume(yard.world, "n9")


def test_a_preempted_run_waits_again_in_its_place_and_says_why(yard: Yard) -> None:
    run = yard.running()
    other = yard.submit(who=OTHER)[0]
    rank = yard.run(run).rank
    moves = dispatch.transitions_of(yard.world, Plan((), {}, preempts=(Preempt(run, 1, other, "x"),)), (), yard.now)
    assert [move.after.state for move in moves] == [
        Stopping(StopCause.preempt, yard.now, dispatch.for_whom(yard.run(run), yard.run(other)))
    ]
    assert dispatch.apply(yard.world, moves) == (True,)
    assert [(stop.run_id, stop.cause) for stop in yard.fakes.executor.of(Stop)] == [(run, StopCause.preempt)]
    again = dispatch.transitions_of(yard.world, Plan((), {}, preempts=(Preempt(run, 1, other, "x"),)), (), yard.now)
    assert again == [], "it is stopping already"
    yard.ends(run, 0, cause=StopCause.preempt)
    found = yard.run(run)
    assert isinstance(found.state, Waiting)
    assert found.state.not_before_ms <= yard.now
    assert found.rank == rank
    assert found.attempts[0].ending is not None
    assert (found.attempts[0].ending.reason, found.attempts[0].ending.detail) == (
        Reason.preempted,
        "The room was borrowed, and another account that holds less than is due to it has asked for it.",
    )
    assert other not in queries.explain(yard.world, found).sentence, "nothing of another account is told"
    assert "waits again with its checkpoint" in queries.explain(yard.world, found).sentence
    (entry,) = yard.fakes.store.ledger(run)
    assert not entry.waste


def test_within_an_account_the_run_is_named_that_took_the_room(yard: Yard) -> None:
    run, other = yard.running(), yard.submit(manifest(extra="runyard: {priority: 90}\n"))[0]
    assert dispatch.for_whom(yard.run(run), yard.run(other)) == f"{other}, of priority 90, was to have the room."
    assert dispatch.for_whom(yard.run(run), None).startswith("The room was borrowed")


def test_an_attempt_that_is_over_is_not_stopped_for_others(yard: Yard) -> None:
    run = yard.running()
    late = Plan((), {}, preempts=(Preempt(run, 2, "training-none", "x"), Preempt("training-gone", 1, run, "x")))
    assert dispatch.transitions_of(yard.world, late, (), yard.now) == []


def test_a_cancel_outweighs_making_room(yard: Yard) -> None:
    run = yard.running()
    stopped = lifecycle.stop(yard.run(run), StopCause.preempt, yard.now, "for others")
    assert stopped is not None
    canceled = lifecycle.stop(stopped.after, StopCause.cancel, yard.now)
    assert canceled is not None
    ended = lifecycle.ended(canceled.after, 1, Exit(yard.now, None, 15, StopCause.cancel), RetryPolicy(), yard.now)
    assert ended is not None
    assert ended.after.state_name is StateName.storing


def test_another_priority_changes_who_starts(yard: Yard) -> None:
    control.set_quota(yard.world, "acme", 1)
    first, second = yard.submit()[0], yard.submit()[0]
    yard.staged(first)
    yard.staged(second)
    control.set_priority(yard.world, "acme", second, 60)
    dispatch.dispatch(yard.world)
    assert launched(yard) == [second]
    with pytest.raises(Conflict, match="only waiting runs"):
        control.set_priority(yard.world, "acme", second, 70)
    with pytest.raises(Refused, match="0 to 100"):
        control.set_priority(yard.world, "acme", first, 101)
    with pytest.raises(NotFound):
        control.set_priority(yard.world, "other", first, 10)


def test_what_is_due_borrowed_and_lent(yard: Yard) -> None:
    for _ in range(2):
        yard.running()
    view = quotas.quota(yard.world, "acme").share
    assert view is not None
    assert (view.due, view.in_use, view.borrowed, view.lent) == (2, 2, 0, 0), "nobody else wants anything"
    theirs = yard.submit(who=OTHER)[0]
    yard.staged(theirs)
    mine, other = quotas.quota(yard.world, "acme").share, quotas.quota(yard.world, "other").share
    assert mine is not None
    assert other is not None
    assert (mine.due, mine.in_use, mine.borrowed, mine.lent) == (1, 2, 1, 0)
    assert (other.due, other.in_use, other.borrowed, other.lent) == (1, 0, 0, 1)


def test_what_was_borrowed_is_given_back_once_it_has_settled(yard: Yard) -> None:
    runs = [yard.running(), yard.running()]
    theirs = yard.submit(who=OTHER)[0]
    yard.staged(theirs)
    dispatch.dispatch(yard.world)
    assert yard.fakes.executor.of(Stop) == [], "an attempt this young is left alone"
    yard.fakes.clock.pass_by(yard.rules.policy.settle_ms)
    dispatch.dispatch(yard.world)
    (stopped,) = yard.fakes.executor.of(Stop)
    assert stopped.run_id in runs
    yard.ends(stopped.run_id, None, signal=15, cause=StopCause.preempt)
    dispatch.dispatch(yard.world)
    assert launched(yard)[-1] == theirs
    yard.fakes.clock.pass_by(yard.rules.policy.settle_ms)
    dispatch.dispatch(yard.world)
    assert len(yard.fakes.executor.of(Stop)) == 1, "each has its due: nobody is stopped again"


@pytest.mark.parametrize(("cpus", "memory", "word"), [(4000, None, "CPUs"), (None, 200, "memory"), (0, None, "CPUs")])
def test_the_quota_of_cpus_and_memory_holds_runs_back(yard: Yard, cpus: int, memory: int, word: str) -> None:
    text = "name: small\ngpus: 0\ncpus: 3\nmemory: 150MiB\nlearners: 1\nframework: {command: 'true'}\n"
    text += "data_stores:\n- id: here\n  type: local\n  training_results: {container: results}\n"
    yard.world.store.set_own_quota("acme", {"cpu_millis": cpus, "memory_mib": memory})
    for run in (ids := [*yard.submit(text), *yard.submit(text)]):
        yard.staged(run)
    dispatch.dispatch(yard.world)
    assert len(launched(yard)) == (0 if cpus == 0 else 1)
    told = queries.explain(yard.world, yard.run(ids[1]))
    assert (told.readiness, word in (told.sentence or "")) == ("quota", True)
    yard.world.store.set_own_quota("acme", {}, ["cpu_millis", "memory_mib"])
    dispatch.dispatch(yard.world)
    assert len(launched(yard)) == 2
