"""Machines come and go; what they are asked again when they connect."""

import pytest

from runyard.core.reasons import Reason
from runyard.core.run import Running, StateName, Storing, Waiting
from runyard.engine import control, dispatch, nodes
from runyard.ports.executor import LaunchRequest, StoreRequest
from runyard.testing.fakes import Given, Stop, Synced
from tests.engine.yard import Yard, manifest


def kinds(given: list[Given]) -> list[str]:
    return [type(each).__name__ for each in given]


def connect_again(yard: Yard, *held: tuple[str, int], staged: tuple[int, ...] = ()) -> list[Given]:
    """The machine's stream breaks off and it comes back; returns the orders that it is given."""
    yard.fakes.executor.take()
    yard.join(held=held, staged=staged)
    return yard.fakes.executor.take()


def test_every_order_that_holds_is_given_again_behind_the_list(yard: Yard) -> None:
    starting, storing = yard.starting(), yard.storing()
    stopping = yard.running()
    control.cancel(yard.world, "acme", stopping)
    waiting = yard.submit()[0]
    given = connect_again(yard, (stopping, 1), (storing, 1))
    assert isinstance(given[0], Synced)
    assert set(given[0].run_ids) == {starting, storing, stopping}
    assert waiting not in given[0].run_ids
    assert [each.run_id for each in given if isinstance(each, LaunchRequest)] == [starting, stopping]
    assert [each.run_id for each in given if isinstance(each, StoreRequest)] == [storing]
    assert [each.run_id for each in given if isinstance(each, Stop)] == [stopping]
    order = [(type(each).__name__) for each in given if getattr(each, "run_id", "") == stopping]
    assert order == ["LaunchRequest", "Stop"]
    assert kinds(connect_again(yard, (stopping, 1), (storing, 1))) == kinds(given), "and again, the same"


def test_a_waiting_run_with_an_attempt_behind_it_keeps_its_folders(yard: Yard) -> None:
    run = yard.starting()
    yard.ends(run, None, launch_error="no")
    given = connect_again(yard)
    assert given[0] == Synced("n1", (run,))


def test_a_final_run_is_not_in_the_list(yard: Yard) -> None:
    yard.finished()
    assert connect_again(yard) == [Synced("n1", ())]


def test_what_began_and_is_not_held_any_more_is_lost(yard: Yard) -> None:
    begun, not_begun = yard.running(), yard.starting()
    given = connect_again(yard)
    state = yard.run(begun).state
    assert isinstance(state, Waiting)
    assert state.previous is not None
    assert state.previous.reason is Reason.node_lost
    assert "came back without the run's folder" in state.previous.detail
    assert yard.run(not_begun).state_name is StateName.starting
    assert [each.run_id for each in given if isinstance(each, LaunchRequest)] == [not_begun]


def test_what_it_has_ready_is_known_from_its_hello(yard: Yard) -> None:
    run = yard.submit()[0]
    yard.staged(run)
    spec = yard.run(run).spec_id
    connect_again(yard)
    assert not yard.world.ready.has("n1", spec)
    connect_again(yard, staged=(spec,))
    assert yard.world.ready.has("n1", spec)


def test_the_end_of_a_stream_is_noted_unless_there_is_another(yard: Yard) -> None:
    yard.fakes.clock.pass_by(5000)
    nodes.disconnected(yard.world, "n1", lambda: True)
    assert yard.fakes.store.nodes()[0].connected
    nodes.disconnected(yard.world, "n1", lambda: False)
    node = yard.fakes.store.nodes()[0]
    assert (node.connected, node.seen_ms) == (False, yard.now)


def test_a_server_that_was_long_away_gives_machines_their_time(yard: Yard) -> None:
    run = yard.running()
    yard.fakes.clock.pass_by(86_400_000)  # a day of training, one stream all the while
    yard.restart()
    began = yard.now
    assert nodes.overdue(yard.world, yard.now, began) == ([], began + 600_000)
    assert nodes.fence(yard.world, "n1", began) == 0
    yard.fakes.clock.pass_by(599_999)
    yard.join(held=((run, 1),))
    yard.fakes.clock.pass_by(600_000)
    assert nodes.fence(yard.world, "n1", began) == 0, "it is back"
    assert isinstance(yard.run(run).state, Running)


def test_one_order_that_cannot_be_made_does_not_keep_a_machine_out(yard: Yard) -> None:
    yard.fakes.objects.put("acme", "data", a=b"1")
    text = manifest(data="data", kind="s3")
    running, starting = yard.running(text), yard.starting(text)
    good = yard.submit()[0]
    yard.staged(good)
    yard.fakes.vault.lose_key()
    yard.restart()
    given = connect_again(yard, (running, 1), staged=(yard.run(good).spec_id,))
    assert given == [Synced("n1", (running, starting))]
    assert yard.fakes.store.nodes()[0].connected
    assert isinstance(yard.run(running).state, Running), "a program that runs goes on"
    assert yard.run(starting).state_name is StateName.waiting
    dispatch.dispatch(yard.world)
    assert [each.run_id for each in yard.fakes.executor.of(LaunchRequest)] == [good]


def test_a_store_order_that_cannot_be_made_is_shown(yard: Yard) -> None:
    yard.fakes.objects.put("acme", "data", a=b"1")
    run = yard.running(manifest(data="data", kind="s3"))
    yard.fakes.vault.lose_key()
    yard.restart()
    yard.join(held=((run, 1),))
    yard.ends(run)
    state = yard.run(run).state
    assert isinstance(state, Storing)
    assert "its log says why" in state.problem


@pytest.mark.parametrize(("connected", "late"), [(True, False), (False, True)])
def test_only_machines_that_are_away_are_overdue(yard: Yard, connected: bool, late: bool) -> None:
    if not connected:
        nodes.disconnected(yard.world, "n1", lambda: False)
    yard.fakes.clock.pass_by(600_000)
    assert bool(nodes.overdue(yard.world, yard.now, 0)[0]) is late
