"""The server dies between `committed` and `told the machine`: the order follows from the state, and is given again."""

from collections.abc import Callable

import pytest

from runyard.core.reasons import Reason
from runyard.core.run import StateName
from runyard.engine import control, dispatch, stage, supervise
from runyard.ports.executor import LaunchRequest, StageRequest, StoreRequest
from runyard.testing.fakes import Crashed, Given, Stop, StopStoring, Synced
from tests.engine.yard import Yard, manifest

Move = Callable[[Yard], tuple[str, Callable[[], object]]]
"""Brings a run to the moment before, and gives it and what makes the server commit."""


def _launch(yard: Yard) -> tuple[str, Callable[[], object]]:
    run = yard.submit()[0]
    yard.staged(run)
    return run, lambda: dispatch.dispatch(yard.world)


def _stop(yard: Yard) -> tuple[str, Callable[[], object]]:
    run = yard.running()
    return run, lambda: control.cancel(yard.world, "acme", run)


def _stop_before_it_began(yard: Yard) -> tuple[str, Callable[[], object]]:
    run = yard.starting()
    return run, lambda: control.cancel(yard.world, "acme", run)


def _store(yard: Yard) -> tuple[str, Callable[[], object]]:
    run = yard.running()
    return run, lambda: yard.ends(run)


def _store_evidence(yard: Yard) -> tuple[str, Callable[[], object]]:
    run = yard.submit(manifest(data="data"), force=True)[0]
    return run, lambda: stage.stage(yard.world, yard.run(run).spec_id)


def _stop_storing(yard: Yard) -> tuple[str, Callable[[], object]]:
    run = yard.storing()
    return run, lambda: control.cancel(yard.world, "acme", run)


def _release(yard: Yard) -> tuple[str, Callable[[], object]]:
    run = yard.storing()
    return run, lambda: supervise.stored(yard.world, "n1", run, 1, 1)


def _launch_again(yard: Yard) -> tuple[str, Callable[[], object]]:
    run = yard.running()
    supervise.lost(yard.world, "n1", run, 1, Reason.shim_lost, "It died.")
    yard.fakes.clock.pass_by(1000)
    return run, lambda: dispatch.dispatch(yard.world)


MOVES: dict[str, tuple[Move, StateName, tuple[type, ...]]] = {
    "launch": (_launch, StateName.starting, (LaunchRequest,)),
    "launch of the second attempt": (_launch_again, StateName.starting, (LaunchRequest,)),
    "stop": (_stop, StateName.stopping, (LaunchRequest, Stop)),
    "stop before it began": (_stop_before_it_began, StateName.stopping, (LaunchRequest, Stop)),
    "store": (_store, StateName.storing, (StoreRequest,)),
    "store of evidence": (_store_evidence, StateName.storing, (StoreRequest,)),
    "stop of storing": (_stop_storing, StateName.canceled, ()),
    "release": (_release, StateName.completed, ()),
}


def about(given: list[Given], run: str) -> tuple[type, ...]:
    return tuple(type(each) for each in given if getattr(each, "run_id", None) == run)


@pytest.mark.parametrize("move", MOVES)
def test_the_order_that_was_not_sent_is_given_when_the_machine_connects(yard: Yard, move: str) -> None:
    prepare, state, expected = MOVES[move]
    run, commit = prepare(yard)
    yard.fakes.executor.take()
    yard.fakes.executor.dies = True
    with pytest.raises(Crashed):
        commit()
    assert yard.run(run).state_name is state, "it was committed"
    yard.fakes.executor.dies = False
    spec, attempts = yard.run(run).spec_id, len(yard.run(run).attempts)
    yard.restart()
    yard.join(held=((run, attempts),), staged=(spec,))
    given = yard.fakes.executor.take()
    assert about(given, run) == expected
    first = given[0]
    assert isinstance(first, Synced)
    assert (run in first.run_ids) is bool(expected), "what is in no list is released by the machine"
    assert StopStoring not in map(type, given)


def test_a_stage_order_that_was_not_sent_is_asked_again(yard: Yard) -> None:
    run = yard.submit()[0]
    yard.fakes.executor.dies = True
    with pytest.raises(Crashed):
        stage.stage(yard.world, yard.run(run).spec_id)
    yard.fakes.executor.dies = False
    yard.restart()
    yard.join()
    stage.stage(yard.world, yard.run(run).spec_id)
    assert [order.spec_id for order in yard.fakes.executor.of(StageRequest)] == [yard.run(run).spec_id]


def test_nothing_is_lost_by_dying_in_the_middle_of_many_orders(yard: Yard) -> None:
    runs = yard.submit(manifest(data="data"), parameters=({},) * 30, force=True)
    yard.fakes.executor.dies = True
    with pytest.raises(Crashed):
        stage.stage(yard.world, yard.run(runs[0]).spec_id)
    yard.fakes.executor.dies = False
    yard.restart()
    yard.join()
    assert {order.run_id for order in yard.fakes.executor.of(StoreRequest)} == set(runs)
    assert all("There is no bucket data" in order.evidence for order in yard.fakes.executor.of(StoreRequest))
