"""Deciding and applying, also when others change the same run."""

from threading import Barrier, Thread

import pytest

from runyard.core import lifecycle
from runyard.core.lifecycle import Transition
from runyard.core.run import Run, StateName
from runyard.engine import control
from runyard.engine.bell import DISPATCH, EVENTS, STAGE, log_topic
from runyard.engine.commit import apply, change
from runyard.ports.executor import LaunchRequest
from runyard.testing.fakes import Stop
from tests.engine.yard import CANCEL, Yard


def test_a_change_that_somebody_overtook_is_decided_again(yard: Yard) -> None:
    run, seen = yard.submit(parameters=({}, {}))[0], list[int]()

    def decide(current: Run) -> Transition | None:
        seen.append(current.version)
        if len(seen) < 3:  # somebody is faster, twice
            control.move(yard.world, "acme", run, 1)
        return lifecycle.stop(current, CANCEL, yard.now)

    after = change(yard.world, run, decide)
    assert after is not None
    assert after.state_name is StateName.canceled
    assert seen == [1, 2, 3]


def test_a_change_that_never_holds_ends(yard: Yard) -> None:
    run = yard.submit(parameters=({}, {}))[0]

    def decide(current: Run) -> Transition | None:
        control.move(yard.world, "acme", run, 1)
        return lifecycle.stop(current, CANCEL, yard.now)

    with pytest.raises(RuntimeError, match="changed 20 times"):
        change(yard.world, run, decide)


def test_nothing_to_change(yard: Yard) -> None:
    assert change(yard.world, "training-000000000", lambda run: lifecycle.stop(run, CANCEL, 0)) is None
    assert change(yard.world, yard.finished(), lambda run: lifecycle.stop(run, CANCEL, 0)) is None


def test_cancels_from_many_threads_order_one_stop(yard: Yard) -> None:
    run, together = yard.running(), Barrier(8)

    def cancel() -> None:
        together.wait()
        control.cancel(yard.world, "acme", run)

    threads = [Thread(target=cancel) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(yard.fakes.executor.of(Stop)) == 1
    assert yard.run(run).state_name is StateName.stopping


def test_what_did_not_apply_gives_no_order(yard: Yard) -> None:
    run = yard.submit()[0]
    yard.staged(run)
    stale = yard.run(run)
    control.cancel(yard.world, "acme", run)
    transition = lifecycle.assign(stale, "n1", (0,), yard.now)
    assert transition is not None
    assert apply(yard.world, (transition,)) == (False,)
    assert yard.fakes.executor.of(LaunchRequest) == []


def test_who_is_woken(yard: Yard) -> None:
    rung = yard.bell.rung
    run = yard.starting()
    rung.clear()
    yard.ends(run, None, launch_error="the code is gone")
    assert rung == {DISPATCH, STAGE, EVENTS, log_topic(run)}
    rung.clear()
    other = yard.submit()[0]
    control.cancel(yard.world, "acme", other)
    assert {EVENTS, log_topic(other)} <= rung
