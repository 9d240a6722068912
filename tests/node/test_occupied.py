"""Slots in which a program still is: nobody else begins there."""

from runyard.node.occupied import Occupied
from runyard.wire import facts, orders
from tests.node.nodes import OTHER, RUN, NodeProcess, launch_of, marked, of_run, stage_of

A, B, C = (RUN, 1), (OTHER, 1), (OTHER, 2)
STAYS = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


def test_a_slot_is_of_one_attempt_until_that_is_gone() -> None:
    occupied = Occupied()
    assert occupied.take(A, (0, 1)) is None
    assert occupied.take(A, (1,)) is None, "in the place of those that it had"
    assert occupied.take(B, (0,)) is None
    assert occupied.take(C, (2, 1)) == A
    assert occupied.take(C, (2,)) is None, "and it was given none"
    occupied.leave(A)
    occupied.leave(A)
    assert occupied.take(C, (2, 1)) is None


def test_what_takes_over_is_not_asked_and_outlives_the_one_before() -> None:
    occupied = Occupied()
    occupied.take(A, (0,))
    assert occupied.take(B, (0,), over=True) is None
    occupied.leave(A)
    assert occupied.take(A, (0,)) == B
    occupied.forget(OTHER)
    assert occupied.take(A, (0,)) is None


def started(node: NodeProcess) -> orders.Stage:
    stage = stage_of(node.server, {})
    node.server.give(launch_of(stage, STAYS, slots=(1,)))
    node.server.wait(lambda: b"ready" in node.server.log(RUN), "the program")
    return stage


def place_of(node: NodeProcess, kind: type, run: str) -> int:
    return next(n for n, f in enumerate(node.server.facts) if isinstance(f, kind) and getattr(f, "run", "") == run)


def test_a_launch_waits_for_what_is_being_ended_in_its_slot(node: NodeProcess) -> None:
    stage = started(node)
    node.kill()
    node.start()  # it knows again by the folders
    node.server.wait(lambda: len(node.server.hellos) > 1, "it is back")
    node.server.give(launch_of(stage, "echo $CUDA_VISIBLE_DEVICES", OTHER, slots=(1,)))
    node.server.give(orders.Stop(RUN, 1, "fenced", 0))
    assert node.server.wait_for(facts.Exited, of_run(OTHER)).exit_code == 0
    assert place_of(node, facts.Exited, RUN) < place_of(node, facts.Began, OTHER)


def test_a_launch_into_a_slot_that_stays_taken_is_handed_back_with_its_reason(node: NodeProcess) -> None:
    stage = started(node)
    node.server.give(launch_of(stage, "echo no", OTHER, slots=(1,)))
    back = node.server.wait_for(facts.Exited, of_run(OTHER))
    assert (back.launch_reason, back.exit_code) == ("gpu_taken", None)
    assert back.launch_error == (f"A slot that it was given is still held by attempt 1 of {RUN}, which does not end.")
    assert marked(RUN), "and that one goes on"
    assert not [each for each in node.server.facts if isinstance(each, facts.Began) and each.run == OTHER]
