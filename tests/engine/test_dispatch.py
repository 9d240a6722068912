"""What may start does, once, within room and quota."""

from dataclasses import replace

import pytest

from runyard.core.run import StateName, Waiting
from runyard.engine import control, dispatch
from runyard.engine.bell import DISPATCH
from runyard.engine.world import SpecShelf
from runyard.ports.executor import LaunchRequest
from tests.engine.yard import OTHER, SECRET, Yard, manifest


def launched(yard: Yard) -> list[str]:
    return [order.run_id for order in yard.fakes.executor.of(LaunchRequest)]


def test_as_many_start_as_there_are_slots_and_each_once(yard: Yard) -> None:
    runs = yard.submit(parameters=({"lr": 1}, {"lr": 2}, {"lr": 3}), append_args=True)
    yard.staged(runs[0])
    for _ in range(3):
        dispatch.dispatch(yard.world)
    assert launched(yard) == list(runs[:2])
    orders = yard.fakes.executor.of(LaunchRequest)
    assert [order.slots for order in orders] == [(0,), (1,)]
    assert [order.command for order in orders] == ["python3 train.py --lr 1", "python3 train.py --lr 2"]
    assert [order.stage.listed for order in orders] == [False, False]
    yard.ends(runs[0])
    dispatch.dispatch(yard.world)
    assert launched(yard) == list(runs)


def test_an_order_carries_what_the_machine_needs_and_shows_no_secret(yard: Yard) -> None:
    yard.fakes.objects.put("acme", "data", a=b"1")
    extra = "runyard: {env: {DEBUG: '1'}, max_runtime: 2h, grace: 5s, outputs: ['*.ckpt']}\n"
    text = manifest(data="data", kind="s3", extra=extra)
    yard.starting(text)
    order = yard.fakes.executor.of(LaunchRequest)[0]
    assert (order.env, order.max_runtime_ms, order.grace_ms) == ({"DEBUG": "1"}, 7_200_000, 5_000)
    assert (order.outputs, order.member_number, order.gpus) == (("*.ckpt",), 1, 1)
    assert SECRET not in repr(order)


@pytest.mark.parametrize(("quota", "starts"), [(0, 0), (1, 1), (2, 2), (None, 2)])
def test_the_quota_of_the_account(yard: Yard, quota: int | None, starts: int) -> None:
    control.set_quota(yard.world, "acme", quota)
    runs = yard.submit(parameters=({},) * 3)
    yard.staged(runs[0])
    dispatch.dispatch(yard.world)
    dispatch.dispatch(yard.world)
    assert len(launched(yard)) == starts


def test_one_accounts_quota_holds_nobody_else(yard: Yard) -> None:
    control.set_quota(yard.world, "acme", 1)
    mine, theirs = yard.submit(parameters=({},) * 2), yard.submit(who=OTHER)
    yard.staged(mine[0])
    yard.staged(theirs[0])
    dispatch.dispatch(yard.world)
    assert launched(yard) == [mine[0], theirs[0]]


@pytest.mark.parametrize("whose", ["acme", None])
def test_a_paused_queue(yard: Yard, whose: str | None) -> None:
    run = yard.submit()[0]
    yard.staged(run)
    control.pause(yard.world, whose, True)
    dispatch.dispatch(yard.world)
    assert launched(yard) == []
    control.pause(yard.world, whose, False)
    dispatch.dispatch(yard.world)
    assert launched(yard) == [run]


def test_nothing_starts_on_a_machine_that_is_away(yard: Yard) -> None:
    run = yard.submit()[0]
    yard.staged(run)
    yard.restart()
    dispatch.dispatch(yard.world)
    assert launched(yard) == []
    assert yard.run(run).state_name is StateName.waiting


def test_small_runs_beyond_the_first_look_start_too(yard: Yard) -> None:
    text = "name: small\ngpus: 0\ncpus: 0.1\nmemory: 100MiB\nlearners: 1\nframework: {command: 'true'}\n"
    text += "data_stores:\n- id: here\n  type: local\n  training_results: {container: results}\n"
    runs = yard.submit(text, parameters=({},) * 60)
    yard.staged(runs[0])
    yard.bell.rung.add(DISPATCH)
    while DISPATCH in yard.bell.rung:
        yard.bell.rung.clear()
        dispatch.dispatch(yard.world)
    assert len(launched(yard)) == 60


def test_a_run_that_waits_for_its_back_off_says_when_to_wake(yard: Yard) -> None:
    run = yard.starting()
    yard.ends(run, None, launch_error="no such interpreter")
    state = yard.run(run).state
    assert isinstance(state, Waiting)
    yard.staged(run)
    plan = dispatch.dispatch(yard.world)
    assert plan.wake_at_ms == state.not_before_ms == yard.now + 1000
    yard.fakes.clock.pass_by(1000)
    dispatch.dispatch(yard.world)
    assert launched(yard) == [run, run]


def test_a_launch_that_cannot_be_made_harms_that_run_alone(yard: Yard) -> None:
    yard.fakes.objects.put("acme", "data", a=b"1")
    bad, good = yard.submit(manifest(data="data", kind="s3"))[0], yard.submit()[0]
    yard.staged(bad)
    yard.staged(good)
    yard.world = replace(yard.world, specs=SpecShelf(yard.fakes.store))  # nothing is open any more
    yard.fakes.vault.lose_key()
    dispatch.dispatch(yard.world)
    assert launched(yard) == [good]
    tried = yard.run(bad)
    assert isinstance(tried.state, Waiting), "the platform's fault: another attempt follows"
    assert tried.state.previous is not None
    assert "its log says why" in tried.state.previous.detail
    for _ in range(yard.rules.retry.platform_attempts):
        yard.fakes.clock.pass_by(600_000)
        dispatch.dispatch(yard.world)
    assert yard.run(bad).state_name is StateName.storing
    assert all(entry.waste for entry in yard.fakes.store.ledger(bad))
