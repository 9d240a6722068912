"""Grants ahead as the server gives, keeps and takes them back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from runyard.core.budget import Budget, Period
from runyard.core.lifecycle import Exit
from runyard.core.reasons import Reason
from runyard.core.run import GRANTED, StateName, Waiting
from runyard.core.scheduling.ahead import HOLD_MS, LEASE_MS, Grant, lasts_ms
from runyard.core.scheduling.decisions import Wait
from runyard.engine import control, dispatch, queries, seeing, shares, supervise
from runyard.engine.bell import DISPATCH, REFILL
from runyard.engine.told import Began, Declined, Exited, Lost, Stored, Then, Told
from runyard.ports.executor import LaunchRequest, StoreRequest
from runyard.testing.fakes import Release, Stop, Synced, Withdraw
from tests.engine.yard import ACME, OTHER, Yard, manifest

CLEAN = Exit(at_ms=0, exit_code=0, signal=None, log_bytes=0)


def short(yard: Yard, count: int = 40, **more: Any) -> tuple[str, ...]:
    """Runs of a class that is known to be short, two of which run."""
    runs = yard.submit(parameters=({},) * count, **more)
    yard.staged(runs[0])
    yard.world.pace.note(yard.run(runs[0]).class_id, 100)
    dispatch.dispatch(yard.world)
    dispatch.dispatch(yard.world)
    return runs


def take(yard: Yard, *told: Told) -> list[bool]:
    return supervise.take(yard.world, "n1", told)


def granted(yard: Yard) -> list[str]:
    return [run.id for run in yard.fakes.store.granted_runs("n1")]


def exited(yard: Yard, run: str, then: str | None = None, number: int = 1) -> Exited:
    record = Exit(at_ms=yard.now, exit_code=0, signal=None, log_bytes=0)
    return Exited(run, len(yard.run(run).attempts), record, Then(then, number) if then is not None else None)


def test_the_next_ones_lie_ready_in_the_order_of_the_queue(yard: Yard) -> None:
    runs = short(yard)
    orders = yard.fakes.executor.of(LaunchRequest)
    assert [order.run_id for order in orders] == list(runs[: len(orders)])
    assert [order.hold_ms > 0 for order in orders] == [False, False] + [True] * (len(orders) - 2)
    assert {(order.slots, order.attempt) for order in orders[2:]} == {((), 1)}
    assert 15 <= len(granted(yard)) <= 20, "10 for each of two that run, about"
    assert granted(yard) == list(runs[2 : len(orders)])
    assert yard.run(runs[2]).state == Waiting(GRANTED, granted_to="n1")
    dispatch.dispatch(yard.world)
    assert len(yard.fakes.executor.of(LaunchRequest)) == len(orders), "there are enough"


def test_unknown_or_long_classes_are_granted_nothing(yard: Yard) -> None:
    runs = yard.submit(parameters=({},) * 5)
    yard.staged(runs[0])
    dispatch.dispatch(yard.world)
    yard.world.pace.note(yard.run(runs[0]).class_id, 60_000)
    dispatch.dispatch(yard.world)
    assert granted(yard) == []


def test_a_batch_is_one_change_a_run_and_gives_no_order_that_is_past(yard: Yard) -> None:
    runs = short(yard)
    yard.fakes.executor.take()
    before = yard.fakes.store.last_seq()
    yard.fakes.clock.pass_by(100)
    answers = take(
        yard,
        Began(runs[0], 1, yard.now),
        Exited(runs[0], 1, Exit(yard.now, 0, None), Then(runs[2], 1)),
        Stored(runs[0], 1, 1),
        Began(runs[2], 1, yard.now, "exec", "why"),
        Exited(runs[2], 1, Exit(yard.now, 0, None), Then(runs[3], 1)),
    )
    assert answers == [True] * 5
    assert [yard.run(run).state_name for run in runs[:4]] == ["completed", "starting", "storing", "starting"]
    kinds = [each.event.kind.value for each in yard.fakes.store.events(before, 99) if each.event.run_id == runs[2]]
    assert kinds == ["assigned", "running", "attempt_ended", "storing"]
    given = yard.fakes.executor.take()
    assert [type(each) for each in given] == [Release, StoreRequest]
    assert yard.run(runs[2]).attempts[0].slots == yard.run(runs[0]).attempts[0].slots
    assert yard.fakes.store.ledger(runs[2])[0].gpu_ms == 0
    assert take(yard, Exited(runs[0], 1, CLEAN, Then(runs[2], 1)), Stored(runs[0], 1, 1)) == [False, False]
    assert yard.run(runs[2]).state_name is StateName.storing


def test_what_was_declined_is_granted_again_in_its_turn(yard: Yard) -> None:
    runs = short(yard)
    assert take(yard, Declined(runs[2], 1), Declined(runs[2], 1), Declined(runs[30], 1)) == [True, False, False]
    assert runs[2] not in granted(yard)
    take(yard, *(Declined(run, 1) for run in runs[3:9]))
    dispatch.dispatch(yard.world)
    assert granted(yard) == list(runs[2:22])


def test_a_room_that_is_free_goes_to_the_last_granted(yard: Yard) -> None:
    runs = short(yard)
    last = granted(yard)[-1]
    yard.fakes.executor.take()
    take(yard, exited(yard, runs[0]))
    dispatch.dispatch(yard.world)
    first = yard.fakes.executor.of(LaunchRequest)[0]
    assert (first.run_id, first.slots, first.hold_ms, first.attempt) == (last, (0,), 0, 1)
    take(yard, Exited(runs[1], 1, CLEAN, Then(last, 1)))
    assert yard.run(last).attempts[0].slots == (1,), "where it really is"
    held = {holding.slots for holding in yard.fakes.store.holdings()}
    assert held == {(1,)}


def test_a_room_does_not_stay_empty_while_the_machine_goes_on_in_another(yard: Yard) -> None:
    """The machine always has begun, by the time of an order, what was the first of its grants when that was given."""
    runs = short(yard, 200)
    take(yard, exited(yard, runs[0]))  # nobody took that room over
    before = runs[1]
    for run in granted(yard)[:8]:
        dispatch.dispatch(yard.world)
        take(yard, exited(yard, before, run), Began(run, 1, yard.now))
        before = run
        yard.fakes.clock.pass_by(10)
        assert sorted(holding.slots for holding in yard.fakes.store.holdings()) == [(0,), (1,)]


def test_a_cancel_of_a_granted_run_asks_its_machine(yard: Yard) -> None:
    runs = short(yard)
    yard.fakes.executor.take()
    control.cancel(yard.world, "acme", runs[2])
    assert yard.run(runs[2]).state_name is StateName.stopping
    assert [(stop.run_id, stop.attempt) for stop in yard.fakes.executor.of(Stop)] == [(runs[2], 1)]
    assert len(yard.fakes.store.holdings()) == 2, "it has no room of its own"
    take(yard, Declined(runs[2], 1))
    assert yard.run(runs[2]).state_name is StateName.storing
    assert [entry.cost for entry in yard.fakes.store.ledger(runs[2])] == [0]
    (store,) = yard.fakes.executor.of(StoreRequest)
    assert (store.run_id, store.attempt) == (runs[2], 0)
    assert "Canceled" in store.evidence


def test_others_that_wait_for_the_room_end_the_grants(yard: Yard) -> None:
    mine = short(yard)
    urgent = yard.submit(manifest(extra="runyard: {priority: 90}\n"), who=OTHER)[0]
    yard.staged(urgent)
    take(yard, *(Declined(run, 1) for run in granted(yard)))
    dispatch.dispatch(yard.world)
    assert granted(yard) == []
    take(yard, exited(yard, mine[0]))
    dispatch.dispatch(yard.world)
    assert yard.run(urgent).state_name is StateName.starting


@pytest.mark.parametrize("hold", ["pause", "pause all", "quota"])
def test_what_is_held_is_granted_no_more(yard: Yard, hold: str) -> None:
    short(yard)
    if hold == "quota":
        control.set_quota(yard.world, "acme", 1)
    else:
        control.pause(yard.world, None if hold == "pause all" else "acme", True)
    take(yard, *(Declined(run, 1) for run in granted(yard)))
    dispatch.dispatch(yard.world)
    assert granted(yard) == []


def test_a_quota_is_no_hindrance_where_it_is_kept(yard: Yard) -> None:
    control.set_quota(yard.world, "acme", 2)
    assert len(short(yard)) == 40
    assert len(granted(yard)) >= 15


def test_several_learners_are_never_granted(yard: Yard) -> None:
    text = "name: pair\ngpus: 1\ncpus: 0.5\nmemory: 100MiB\nlearners: 2\nframework: {command: 'true'}\n"
    runs = [yard.submit(text)[0] for _ in range(2)]
    for run in runs:
        yard.staged(run)
    yard.world.pace.note(yard.run(runs[0]).class_id, 100)
    dispatch.dispatch(yard.world)
    dispatch.dispatch(yard.world)
    assert yard.run(runs[0]).state_name is StateName.starting
    assert granted(yard) == []


def test_a_machine_that_says_hello_keeps_what_it_holds(yard: Yard) -> None:
    runs = short(yard)
    held = tuple((run, 1) for run in (runs[0], runs[1], runs[3], runs[5]))
    yard.fakes.executor.take()
    yard.join(held=held, staged=(yard.run(runs[0]).spec_id,))
    assert granted(yard) == [runs[3], runs[5]]
    given = yard.fakes.executor.take()
    assert not [each for each in given if isinstance(each, LaunchRequest) and each.run_id in (runs[3], runs[5])]
    (synced,) = [each for each in given if isinstance(each, Synced)]
    assert {runs[3], runs[5]} <= set(synced.run_ids)


def test_a_canceled_grant_that_its_machine_does_not_hold_ends_at_hello(yard: Yard) -> None:
    runs = short(yard)
    control.cancel(yard.world, "acme", runs[2])
    control.cancel(yard.world, "acme", runs[3])
    yard.fakes.executor.take()
    yard.join(held=((runs[0], 1), (runs[1], 1), (runs[3], 1)))
    assert yard.run(runs[2]).state_name is StateName.storing
    assert yard.run(runs[3]).state_name is StateName.stopping
    assert [stop.run_id for stop in yard.fakes.executor.of(Stop)] == [runs[3]]
    assert runs[3] not in {order.run_id for order in yard.fakes.executor.of(LaunchRequest)}


def test_a_machine_that_stays_away_may_have_begun_them_unseen(yard: Yard) -> None:
    runs = short(yard)
    supervise.node_gone(yard.world, "n1", "It was away.")
    first = yard.run(runs[2])
    assert isinstance(first.state, Waiting)
    assert (len(first.attempts), first.state.granted_to, first.ready_on) == (1, None, None)
    assert [entry.gpu_ms for entry in yard.fakes.store.ledger(runs[2])] == [0]
    assert yard.run(runs[30]).attempts == ()
    take(yard, Exited(runs[0], 1, CLEAN, Then(runs[2], 1)), Began(runs[2], 1, yard.now))
    assert yard.run(runs[2]) == first, "its late words change nothing"


def test_a_word_of_a_granted_run_without_whose_room_it_took_burns_its_attempt(yard: Yard) -> None:
    runs = short(yard)
    take(yard, Began(runs[2], 1, yard.now), Lost(runs[3], 1, Reason.machine_restarted, "gone"))
    assert [len(yard.run(run).attempts) for run in runs[2:5]] == [1, 1, 0]
    assert len(yard.fakes.store.holdings()) == 2


def test_of_a_room_that_was_not_there_nothing_is_taken(yard: Yard) -> None:
    runs = short(yard)
    take(yard, exited(yard, runs[0]))
    take(yard, Exited(runs[0], 1, CLEAN, Then(runs[2], 1)))
    assert isinstance(yard.run(runs[2]).state, Waiting)
    assert len(yard.run(runs[2]).attempts) == 1


def test_the_page_says_that_it_is_next(yard: Yard) -> None:
    runs = short(yard)
    told = queries.explain(yard.world, yard.run(runs[2]))
    assert (told.readiness, told.position) == ("capacity", 1)
    assert "next on the machine" in told.sentence
    control.move(yard.world, "acme", runs[2], 5)
    assert yard.run(runs[2]).state == Waiting(GRANTED, granted_to="n1")
    assert queries.queue(yard.world, ACME.account_id, 5).items[4].id == runs[2]


def taken_back(yard: Yard) -> list[str]:
    return [each.run_id for each in yard.fakes.executor.take() if isinstance(each, Withdraw)]


def test_a_queue_that_is_held_takes_its_grants_back(yard: Yard) -> None:
    short(yard)
    out = granted(yard)
    control.pause(yard.world, "acme", True)
    yard.fakes.executor.take()
    dispatch.dispatch(yard.world)
    assert taken_back(yard) == out
    dispatch.dispatch(yard.world)
    assert taken_back(yard) == [], "it was asked"
    take(yard, *(Declined(run, 1) for run in out))
    assert granted(yard) == []
    control.pause(yard.world, "acme", False)
    dispatch.dispatch(yard.world)
    assert granted(yard)
    control.pause(yard.world, None, True)
    dispatch.dispatch(yard.world)
    assert taken_back(yard) == granted(yard), "the same runs, granted anew"


def test_a_machine_that_comes_back_is_asked_again(yard: Yard) -> None:
    short(yard)
    out = tuple((run, 1) for run in granted(yard))
    control.pause(yard.world, "acme", True)
    dispatch.dispatch(yard.world)
    taken_back(yard)
    spec_id = yard.run(out[0][0]).spec_id
    held = tuple((run.id, 1) for run in yard.fakes.store.active_runs("n1"))
    yard.join(held=(*held, *out), staged=(spec_id,))
    dispatch.dispatch(yard.world)
    assert taken_back(yard) == [run for run, _ in out]


def test_a_grant_is_a_lease_by_the_machines_own_clock(yard: Yard) -> None:
    apart = yard.now - 5_000_000
    yard.world.ahead.said_hello("n1", yard.now, 5_000_000)
    yard.world.ahead.tells_time("n1", yard.now + 700, 5_000_000)  # a word that was long on its way
    short(yard)
    orders = [order for order in yard.fakes.executor.of(LaunchRequest) if order.hold_ms]
    assert {order.until_ms for order in orders} == {yard.now + HOLD_MS - apart}


def test_a_machine_that_does_not_tell_the_time_is_granted_nothing(yard: Yard) -> None:
    yard.world.ahead.said_hello("n1", yard.now, 0)
    short(yard)
    assert granted(yard) == []


def test_a_budget_has_enough_for_all_that_is_granted(yard: Yard) -> None:
    enough = 2 * LEASE_MS  # two slots
    shares.set_budget(yard.world, "acme", Budget(Period.week, enough + 2_000))
    runs = short(yard)
    out = granted(yard)
    assert out
    yard.fakes.clock.pass_by(1_000)  # 2,000 ms of GPU
    yard.fakes.executor.take()
    dispatch.dispatch(yard.world)
    assert taken_back(yard) == out
    take(yard, exited(yard, runs[0]))
    plan = dispatch.dispatch(yard.world)
    assert plan.starts == (), "what is out could begin when the budget is used up"
    assert {plan.heads[run] for run in out} == {(Wait.budget, shares.NEARLY)}
    take(yard, *(Declined(run, 1) for run in out))
    yard.fakes.clock.pass_by(LEASE_MS)
    plan = dispatch.dispatch(yard.world)
    assert [start.run_id for start in plan.starts] == [out[0]], "one slot is free, and there is some left"
    assert granted(yard) == []


def test_nothing_is_granted_as_a_window_closes(yard: Yard) -> None:
    shares.set_window(yard.world, "acme", "08:00-09:00")
    day = 24 * 3_600_000
    yard.fakes.clock.pass_by(day - yard.now % day + 9 * 3_600_000 - LEASE_MS)
    runs = short(yard)
    assert granted(yard) == []
    assert yard.run(runs[0]).state_name is StateName.starting
    yard.fakes.clock.pass_by(day - 1_000)
    dispatch.dispatch(yard.world)
    assert granted(yard)
    yard.fakes.clock.pass_by(1_000)
    yard.fakes.executor.take()
    dispatch.dispatch(yard.world)
    assert taken_back(yard) == granted(yard)


def test_what_is_used_up_in_room_that_goes_on_frees_nothing(yard: Yard) -> None:
    runs = short(yard)
    yard.bell.rung.clear()
    take(yard, exited(yard, runs[0], runs[2]))
    assert REFILL in yard.bell.rung
    assert DISPATCH not in yard.bell.rung
    take(yard, exited(yard, runs[1], runs[3]), exited(yard, runs[2]))
    assert DISPATCH in yard.bell.rung, "one of two rooms is nobody's"


def test_what_is_used_up_is_granted_again_when_it_is_a_quarter(yard: Yard) -> None:
    runs = short(yard)
    seen = seeing.snapshot(yard.world, yard.now)
    pace = yard.world.pace.means()
    assert lasts_ms(seen, (), pace) == pytest.approx(100 * 10 / 4)
    assert lasts_ms(replace(seen, classes=()), (), pace) == 0, "nothing is granted"
    assert lasts_ms(replace(seen, classes=()), (Grant(runs[2], yard.run(runs[2]).class_id, "n1"),), pace) > 0


def test_a_machine_is_granted_more_while_its_room_goes_on(yard: Yard) -> None:
    runs = short(yard)

    async def use_up() -> None:
        yard.bell.attach(asyncio.get_running_loop())
        station = asyncio.create_task(dispatch.turn(yard.world))
        try:
            async with asyncio.timeout(20):
                for before, after in pairwise((runs[0], *runs[2:30])):
                    while after not in granted(yard):
                        await asyncio.sleep(0.005)
                    await asyncio.to_thread(take, yard, exited(yard, before, after))
        finally:
            station.cancel()

    asyncio.run(use_up())
    assert yard.run(runs[29]).state_name is StateName.starting
