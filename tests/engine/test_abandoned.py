"""Results on a machine that does not come back: waited for, for days, and then no more."""

from runyard.core.reasons import Reason
from runyard.core.run import Ending, Finished, StateName
from runyard.engine import abandoned, control, nodes
from runyard.engine.bell import NODES
from runyard.engine.world import Rules
from runyard.testing.fakes import Release, Synced
from tests.engine.yard import HeardBell, Yard

WEEK_MS = 7 * abandoned.DAY_MS


def away(yard: Yard) -> None:
    nodes.disconnected(yard.world, "n1", lambda: False)


def test_results_are_lost_a_week_after_their_machine_and_not_before(yard: Yard) -> None:
    run, other = yard.storing(), yard.running()
    yard.ends(other, 1)
    away(yard)
    left = yard.now
    yard.fakes.clock.pass_by(WEEK_MS - 1)
    assert abandoned.overdue(yard.world, yard.now, 0) == ([], left + WEEK_MS)
    assert abandoned.end(yard.world, "n1", 0) == 0
    yard.fakes.clock.pass_by(1)
    late, wake_at = abandoned.overdue(yard.world, yard.now, 0)
    assert ([node.id for node in late], wake_at) == (["n1"], None)
    assert abandoned.end(yard.world, "n1", 0) == 2
    state = yard.run(run).state
    assert isinstance(state, Finished)
    assert (state.ending.outcome, state.ending.reason) == (StateName.failed, Reason.results_lost)
    assert "was last heard of 7.0 days before" in state.ending.detail
    assert yard.run(other).state_name is StateName.failed
    (entry,) = yard.fakes.store.ledger(run)
    assert not entry.waste
    yard.fakes.executor.take()
    yard.join(held=((run, 1), (other, 1)))
    synced = [each for each in yard.fakes.executor.take() if isinstance(each, Synced)]
    assert synced[0].run_ids == (), "the machine may remove what it has of them, should it come back"


def test_a_machine_that_is_there_is_none_of_these(yard: Yard) -> None:
    run = yard.storing()
    yard.fakes.clock.pass_by(2 * WEEK_MS)
    assert abandoned.overdue(yard.world, yard.now, 0) == ([], None)
    assert abandoned.end(yard.world, "n1", 0) == 0
    assert yard.run(run).state_name is StateName.storing


def test_a_server_that_slept_for_weeks_gives_machines_their_time(yard: Yard) -> None:
    yard.storing()
    away(yard)
    yard.fakes.clock.pass_by(3 * WEEK_MS)
    since = yard.now
    late, wake_at = abandoned.overdue(yard.world, yard.now, since)
    assert (late, wake_at) == ([], since + yard.world.rules.node_lost_after_ms)


def test_where_the_operator_says_so_they_are_waited_for_for_ever() -> None:
    yard = Yard(rules=Rules(results_wait_ms=0))
    yard.join()
    yard.storing()
    away(yard)
    yard.fakes.clock.pass_by(100 * WEEK_MS)
    assert abandoned.overdue(yard.world, yard.now, 0) == ((), None)


def test_what_is_canceled_when_its_machine_is_gone_comes_to_an_end(yard: Yard) -> None:
    """It has an attempt behind it, whose logs and checkpoints are that machine's to store: the watch looks again."""
    run = yard.running()
    away(yard)
    yard.fakes.clock.pass_by(WEEK_MS)
    nodes.fence(yard.world, "n1", 0)
    assert yard.run(run).state_name is StateName.waiting
    assert isinstance(yard.bell, HeardBell)
    yard.bell.rung.clear()
    control.cancel(yard.world, "acme", run)
    assert yard.run(run).state_name is StateName.storing
    assert NODES in yard.bell.rung
    assert abandoned.end(yard.world, "n1", 0) == 1
    state = yard.run(run).state
    assert isinstance(state, Finished)
    assert state.ending == Ending(StateName.canceled, Reason.canceled)
    assert Release("n1", run) in yard.fakes.executor.take()
