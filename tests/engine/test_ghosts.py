"""Programs that go on where the record has none: they are ended, and their room is nobody's before."""

from __future__ import annotations

from runyard.core.lifecycle import Exit
from runyard.core.run import StateName, StopCause
from runyard.engine import dispatch, nodes, stage, supervise
from runyard.engine.seeing import snapshot
from runyard.engine.told import Began, Exited, Then
from runyard.ports.executor import LaunchRequest
from runyard.testing.fakes import Stop, Synced
from tests.engine.yard import Yard

AWAY_MS = 700_000
FENCED = StopCause.fenced


def launched(yard: Yard) -> list[tuple[str, int]]:
    return [(each.run_id, each.attempt) for each in yard.fakes.executor.take() if isinstance(each, LaunchRequest)]


def is_away_for_too_long(yard: Yard) -> None:
    nodes.disconnected(yard.world, "n1", lambda: False)
    since = yard.now
    yard.fakes.clock.pass_by(AWAY_MS)
    assert nodes.fence(yard.world, "n1", since) > 0
    yard.fakes.executor.take()


def comes_back(yard: Yard, *living: tuple[str, int], ended: tuple[tuple[str, int], ...] = ()) -> None:
    slots = {each: (slot,) for slot, each in enumerate(living)}
    spec_id = yard.run(living[0][0]).spec_id
    begun = slots | dict.fromkeys(ended, ())
    yard.join(held=(*living, *ended), staged=(spec_id,), begun=begun, living=living)


def is_ready_again(yard: Yard, node_id: str = "n1") -> None:
    """Code and data of all that waits are there, and back-offs are over."""
    yard.fakes.clock.pass_by(2_000)
    for spec_id in yard.fakes.store.specs_to_stage(100):
        stage.stage(yard.world, spec_id)
        stage.staged(yard.world, node_id, spec_id)
    yard.fakes.executor.take()


def tells_the_end(yard: Yard, run: str, attempt: int = 1) -> None:
    record = Exit(yard.now, None, 9, FENCED)
    before = yard.run(run)
    supervise.take(yard.world, "n1", [Exited(run, attempt, record)])
    assert yard.run(run) == before, "it is fenced"


def test_what_was_fenced_and_lives_is_ended_before_its_slot_is_given_again(yard: Yard) -> None:
    first, second = yard.running(), yard.running()
    is_away_for_too_long(yard)
    comes_back(yard, (first, 1), (second, 1))
    given = yard.fakes.executor.take()
    assert given == [
        Synced("n1", (first, second)),
        Stop("n1", first, 1, FENCED, 0),
        Stop("n1", second, 1, FENCED, 0),
    ]
    is_ready_again(yard)
    dispatch.dispatch(yard.world)
    assert launched(yard) == []
    (room,) = snapshot(yard.world, yard.now).nodes
    assert room.free_slots == ()
    assert "is being ended" in room.shut[0]
    tells_the_end(yard, second)
    dispatch.dispatch(yard.world)
    assert launched(yard) == [(first, 2)]
    assert yard.run(first).attempts[-1].slots == (1,)
    tells_the_end(yard, first)
    dispatch.dispatch(yard.world)
    assert launched(yard) == [(second, 2)]


def test_a_server_that_dies_in_between_gives_no_launch_before_the_machine_knows_what_to_end(yard: Yard) -> None:
    first, second = yard.running(), yard.running()
    is_away_for_too_long(yard)
    comes_back(yard, (second, 1), ended=((first, 1),))
    is_ready_again(yard)
    dispatch.dispatch(yard.world)
    assert launched(yard) == [(first, 2)], "of which the machine hears nothing, nor of anything before"
    yard.restart()
    comes_back(yard, (second, 1), ended=((first, 1),))
    given = yard.fakes.executor.take()
    kinds = [type(each) for each in given]
    assert kinds.index(Synced) < kinds.index(Stop) < kinds.index(LaunchRequest)
    is_ready_again(yard)
    dispatch.dispatch(yard.world)
    assert launched(yard) == []
    tells_the_end(yard, second)
    dispatch.dispatch(yard.world)
    assert launched(yard) == [(second, 2)]


def test_what_is_of_no_run_of_the_machine_is_ended_by_the_list(yard: Yard) -> None:
    run = yard.running()
    is_away_for_too_long(yard)
    yard.join("n2", staged=(yard.run(run).spec_id,))
    is_ready_again(yard, "n2")
    dispatch.dispatch(yard.world)
    assert yard.run(run).attempts[-1].node_id == "n2"
    yard.fakes.executor.take()
    comes_back(yard, (run, 1))
    assert yard.fakes.executor.take() == [Synced("n1", ())]
    rooms = {room.id: room for room in snapshot(yard.world, yard.now).nodes}
    assert rooms["n1"].free_slots == (1,)
    tells_the_end(yard, run)
    rooms = {room.id: room for room in snapshot(yard.world, yard.now).nodes}
    assert rooms["n1"].free_slots == (0, 1)


def test_a_grant_that_was_burned_and_begins_all_the_same_is_ended(yard: Yard) -> None:
    first = yard.running()
    runs = yard.submit(parameters=({},) * 3)
    yard.world.pace.note(yard.run(runs[0]).class_id, 100)
    yard.staged(runs[0])
    dispatch.dispatch(yard.world)  # the second slot
    dispatch.dispatch(yard.world)
    (granted,) = [run.id for run in yard.fakes.store.granted_runs("n1")][:1]
    is_away_for_too_long(yard)
    comes_back(yard, (first, 1), (runs[0], 1))
    is_ready_again(yard)
    told = [Exited(first, 1, Exit(yard.now, 0, None), Then(granted, 1)), Began(granted, 1, yard.now)]
    supervise.take(yard.world, "n1", told)
    assert Stop("n1", granted, 1, FENCED, 0) in yard.fakes.executor.take()
    dispatch.dispatch(yard.world)
    assert launched(yard) == [], "its slot is that of the first"
    tells_the_end(yard, granted)
    dispatch.dispatch(yard.world)
    assert [yard.run(run).attempts[-1].slots for run, _ in launched(yard)] == [(0,)]


def test_an_end_that_is_told_twice_is_nobodys_ghost(yard: Yard) -> None:
    runs = yard.submit(parameters=({},) * 3)
    yard.world.pace.note(yard.run(runs[0]).class_id, 100)
    yard.staged(runs[0])
    dispatch.dispatch(yard.world)
    dispatch.dispatch(yard.world)
    told = [
        Exited(runs[0], 1, Exit(yard.now, 0, None), Then(runs[2], 1)),
        Began(runs[2], 1, yard.now),
        Exited(runs[2], 1, Exit(yard.now, 1, None)),
    ]
    yard.fakes.executor.take()
    for _ in range(2):
        supervise.take(yard.world, "n1", told)
    assert [each for each in yard.fakes.executor.take() if isinstance(each, Stop)] == []
    assert yard.world.ghosts.of("n1") == ()
    assert yard.run(runs[2]).state_name is StateName.storing
