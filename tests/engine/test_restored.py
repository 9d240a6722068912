"""After a restore: what machines began since is taken over, and nothing starts before they were heard."""

import pytest

from runyard.core.reasons import Reason
from runyard.core.run import Ending, Finished, Starting, StateName, Waiting
from runyard.engine import control, dispatch, nodes, queries, supervise
from runyard.engine.restored import NOTE, note_of
from runyard.engine.told import StoreFailed
from runyard.ports.executor import StoreRequest
from runyard.testing.builders import a_node
from runyard.testing.fakes import Release
from tests.engine.yard import Yard


def restored(yard: Yard, *awaited: str) -> None:
    """A server begins on a store that was restored; no machine has been heard yet."""
    yard.fakes.store.put_note(*note_of(awaited))
    world = yard.restart()
    world.awaited.load(world.store, world.clock, world.rules.node_lost_after_ms)


def test_nothing_starts_before_the_machines_were_heard(yard: Yard) -> None:
    run = yard.submit()[0]
    yard.staged(run)
    restored(yard, "n1", "n2")
    yard.join(staged=(yard.run(run).spec_id,))
    dispatch.dispatch(yard.world)
    assert isinstance(yard.run(run).state, Waiting)
    assert "restored from a backup, and waits for n2" in queries.explain(yard.world, yard.run(run)).sentence
    yard.join("n2")
    dispatch.dispatch(yard.world)
    assert isinstance(yard.run(run).state, Starting)
    assert yard.fakes.store.note(NOTE) is None


def test_a_machine_that_stays_away_is_not_waited_for_for_ever(yard: Yard) -> None:
    run = yard.submit()[0]
    yard.staged(run)
    restored(yard, "n2")
    yard.join(staged=(yard.run(run).spec_id,))
    wake = yard.world.awaited.wake_at_ms(yard.now)
    assert wake == yard.now + yard.world.rules.node_lost_after_ms
    yard.fakes.clock.pass_by(yard.world.rules.node_lost_after_ms)
    dispatch.dispatch(yard.world)
    assert isinstance(yard.run(run).state, Starting)


@pytest.mark.parametrize("number", [1, 3])
def test_what_began_since_is_taken_over(yard: Yard, number: int) -> None:
    run = yard.submit()[0]
    yard.staged(run)
    restored(yard, "n1")
    node = a_node("n1", connected=False, seen_ms=yard.now)
    nodes.hello(yard.world, node, ((run, number),), (), {(run, number): (1,)})
    taken = yard.run(run)
    assert isinstance(taken.state, Starting)
    assert [(each.number, each.slots) for each in taken.attempts][-1] == (number, (1,))
    assert len(taken.attempts) == number
    assert all(each.ending is not None for each in taken.attempts[:-1])
    assert [entry.cost for entry in yard.fakes.store.ledger(run)] == [0] * (number - 1)
    nodes.connected(yard.world, "n1")
    assert yard.ends(run)
    assert yard.run(run).state_name is StateName.storing


def test_what_was_stored_since_is_stored(yard: Yard) -> None:
    run, kept = yard.storing(), yard.storing()
    restored(yard, "n1")
    yard.join(held=((kept, 1),))
    assert yard.run(run).state_name is StateName.completed
    assert yard.run(kept).state_name is StateName.storing


def test_what_ended_since_and_is_canceled_before_it_runs_again_comes_to_an_end(yard: Yard) -> None:
    """The machine removed its folder when it was told that all is stored: it has nothing to store, and says so."""
    run = yard.running()
    restored(yard, "n1")
    yard.join()
    assert isinstance(yard.run(run).state, Waiting)
    control.cancel(yard.world, "acme", run)
    assert yard.run(run).state_name is StateName.storing
    order = yard.fakes.executor.of(StoreRequest)[-1]
    assert (order.run_id, order.attempt) == (run, 1)
    lost = StoreFailed(run, "The machine has no folder of attempt 1 any more.", denied=True, lost=True)
    assert supervise.take(yard.world, "n1", [lost]) == [True]
    state = yard.run(run).state
    assert isinstance(state, Finished)
    assert state.ending == Ending(StateName.canceled, Reason.canceled)
    assert "no folder of attempt 1" in state.note
    assert [(entry.cost, entry.waste) for entry in yard.fakes.store.ledger(run)] == [(0, True)]
    assert Release("n1", run) in yard.fakes.executor.take()


def test_without_a_restore_nothing_is_taken_over(yard: Yard) -> None:
    run = yard.submit()[0]
    yard.staged(run)
    nodes.hello(yard.world, a_node("n1", connected=False), ((run, 1),), (), {(run, 1): (1,)})
    assert isinstance(yard.run(run).state, Waiting)
