"""Grants ahead: runs that wait on the node for an attempt of their class to end, and begin in its slots."""

import secrets
from pathlib import Path
from typing import Any

from runyard.core import ids
from runyard.node.became import clock_ms
from runyard.node.grants import After, read_after, write_after
from runyard.node.home import AttemptFolder
from runyard.wire import facts, orders
from tests.node.nodes import OTHER, RUN, NodeProcess, launch_of, of_run, stage_of
from tests.support.waiting import wait_until

THIRD = ids.run_id(secrets.randbits(64))
LONG = 600_000
WAITS = "until [ -e $RESULT_DIR/go ]; do sleep 0.02; done"


def staged(node: NodeProcess) -> orders.Stage:
    stage = stage_of(node.server, {"hello.txt": "hello"})
    node.server.give(stage)
    node.server.wait_for(facts.Staged)
    return orders.Stage(stage.spec, stage.code, listed=False)


def grant(node: NodeProcess, stage: orders.Stage, command: str, run: str = OTHER, **more: Any) -> orders.Launch:
    order = launch_of(stage, command, run, slots=(), **({"hold_ms": LONG, "queue_class": 5} | more))
    node.server.give(order)
    return order


def go(node: NodeProcess, run: str = RUN) -> None:
    (node.attempt(run) / "own/result/go").touch()


def running(node: NodeProcess, stage: orders.Stage) -> None:
    node.server.give(launch_of(stage, WAITS, slots=(1,), queue_class=5))
    node.server.wait_for(facts.Began, of_run(RUN))


def place_of(node: NodeProcess, kind: type, run: str) -> int:
    """Where among all facts the first of a kind is that tells of a run."""
    return next(n for n, f in enumerate(node.server.facts) if isinstance(f, kind) and getattr(f, "run", "") == run)


def of_runs(node: NodeProcess, begin: int) -> list[facts.Began | facts.Exited]:
    """What was told of programs, from so many facts on."""
    return [fact for fact in node.server.facts[begin:] if isinstance(fact, facts.Began | facts.Exited)]


def test_a_grant_begins_in_the_slots_of_what_ended_and_is_told_behind_that(node: NodeProcess) -> None:
    stage = staged(node)
    running(node, stage)
    grant(node, stage, "echo slot $CUDA_VISIBLE_DEVICES; cat hello.txt")
    grant(node, stage, "echo third $CUDA_VISIBLE_DEVICES", THIRD)
    go(node)
    ended = node.server.wait_for(facts.Exited, of_run(RUN))
    assert ended.then == facts.Then(OTHER, 1)
    second = node.server.wait_for(facts.Exited, of_run(OTHER))
    assert (second.exit_code, second.then) == (0, facts.Then(THIRD, 1))
    assert node.server.wait_for(facts.Exited, of_run(THIRD)).then is None
    assert place_of(node, facts.Exited, RUN) < place_of(node, facts.Began, OTHER)
    assert place_of(node, facts.Exited, OTHER) < place_of(node, facts.Began, THIRD)
    node.server.wait(lambda: b"third 1" in node.server.log(THIRD), "the log of the third")
    assert node.server.log(OTHER) == b"slot 1\nhello"


def test_nothing_of_another_class_begins_it_and_it_is_declined_in_time(node: NodeProcess) -> None:
    stage = staged(node)
    running(node, stage)
    grant(node, stage, "echo no", queue_class=6, hold_ms=300)
    go(node)
    assert node.server.wait_for(facts.Exited, of_run(RUN)).then is None
    assert node.server.wait_for(facts.Declined) == facts.Declined(OTHER, 1)
    assert not node.attempt(OTHER).parent.parent.exists()
    node.server.give(launch_of(stage, "echo now after all", OTHER))
    assert node.server.wait_for(facts.Exited, of_run(OTHER)).exit_code == 0


def test_a_grant_that_is_stopped_never_begins_and_leaves_its_place_to_the_next(node: NodeProcess) -> None:
    stage = staged(node)
    running(node, stage)
    grant(node, stage, "echo never")
    grant(node, stage, "echo next", THIRD)
    node.server.give(orders.Stop(OTHER, 1, "cancel", 1000))
    canceled = node.server.wait_for(facts.Exited, of_run(OTHER))
    assert (canceled.cause, canceled.exit_code, canceled.then) == ("cancel", None, None)
    go(node)
    assert node.server.wait_for(facts.Exited, of_run(RUN)).then == facts.Then(THIRD, 1)
    assert node.server.wait_for(facts.Exited, of_run(THIRD)).exit_code == 0


def test_an_order_with_slots_starts_what_is_held_at_once(node: NodeProcess) -> None:
    stage = staged(node)
    running(node, stage)
    grant(node, stage, "echo held")
    node.server.give(launch_of(stage, "echo slot $CUDA_VISIBLE_DEVICES", OTHER, slots=(0,), queue_class=5))
    grant(node, stage, "echo slot $CUDA_VISIBLE_DEVICES", THIRD)
    assert node.server.wait_for(facts.Exited, of_run(OTHER)).then == facts.Then(THIRD, 1)
    node.server.wait_for(facts.Exited, of_run(THIRD))
    node.server.wait(lambda: node.server.log(THIRD) == b"slot 0\n", "the log of the third, in the slot of the second")


def test_what_makes_room_for_others_leaves_nothing_to_a_grant(node: NodeProcess) -> None:
    stage = staged(node)
    running(node, stage)
    grant(node, stage, "echo no")
    node.server.give(orders.Stop(RUN, 1, "preempt", 5000))
    ended = node.server.wait_for(facts.Exited, of_run(RUN))
    assert (ended.cause, ended.then) == ("preempt", None)


def test_a_grant_that_is_released_is_forgotten(node: NodeProcess) -> None:
    stage = staged(node)
    running(node, stage)
    grant(node, stage, "echo no")
    node.server.give(orders.Release(OTHER))
    node.server.give(launch_of(stage, "echo first", THIRD, queue_class=6))
    node.server.wait_for(facts.Exited, of_run(THIRD))
    wait_until(lambda: not node.attempt(OTHER).exists(), "the folder's end")
    go(node)
    assert node.server.wait_for(facts.Exited, of_run(RUN)).then is None


def test_a_node_that_was_killed_knows_who_took_over_and_holds_nothing(node: NodeProcess) -> None:
    stage = staged(node)
    running(node, stage)
    grant(node, stage, WAITS)
    go(node)
    node.server.wait_for(facts.Began, of_run(OTHER))
    grant(node, stage, "echo third", THIRD)
    wait_until(lambda: (node.attempt(THIRD) / "order.json").exists(), "the folder of the third")
    node.kill()
    node.server.forget(THIRD)
    told = len(node.server.facts)
    node.start()
    held = {(each.run, each.state) for each in node.server.hellos[-1].held}
    assert held == {(RUN, "exited"), (OTHER, "running"), (THIRD, "prepared")}
    assert node.server.wait_for(facts.Declined) == facts.Declined(THIRD, 1)
    node.server.wait(lambda: any(f.run == OTHER for f in of_runs(node, told)), "a fact on the second")
    again = of_runs(node, told)
    assert next(fact for fact in again if isinstance(fact, facts.Exited)).then == facts.Then(OTHER, 1)
    ends = [n for n, fact in enumerate(again) if isinstance(fact, facts.Exited) and fact.run == RUN]
    assert ends[0] < next(n for n, fact in enumerate(again) if fact.run == OTHER)
    go(node, OTHER)
    assert node.server.wait_for(facts.Exited, of_run(OTHER)).then is None


def test_what_is_taken_over_is_written_down_and_decided_once(tmp_path: Path) -> None:
    folder = AttemptFolder(RUN, 1, str(tmp_path / "1"))
    write_after(folder, After(OTHER, 3, (0, 2)))
    assert read_after(folder) == After(OTHER, 3, (0, 2))
    write_after(folder, After(OTHER, 4, ()))
    assert read_after(folder) == After(OTHER, 4, ())


def test_a_grant_begins_while_the_end_before_it_is_still_being_recorded(node: NodeProcess) -> None:
    stage = staged(node)
    running(node, stage)
    grant(node, stage, "touch $RESULT_DIR/began")
    room = node.attempt(RUN) / "exit.json.tmp"
    room.unlink()
    room.mkdir()  # the record cannot be written
    go(node)
    wait_until((node.attempt(OTHER) / "own/result/began").exists, "the program that took over")
    assert of_runs(node, place_of(node, facts.Began, RUN) + 1) == []
    room.rmdir()
    assert node.server.wait_for(facts.Exited, of_run(RUN)).then == facts.Then(OTHER, 1)
    assert node.server.wait_for(facts.Exited, of_run(OTHER)).exit_code == 0


def test_a_grant_that_is_taken_back_is_declined_and_one_that_has_begun_goes_on(node: NodeProcess) -> None:
    stage = staged(node)
    running(node, stage)
    grant(node, stage, "echo no")
    node.server.give(orders.Withdraw(OTHER, 1))
    assert node.server.wait_for(facts.Declined) == facts.Declined(OTHER, 1)
    node.server.give(orders.Withdraw(RUN, 1))
    go(node)
    ended = node.server.wait_for(facts.Exited, of_run(RUN))
    assert (ended.exit_code, ended.then) == (0, None)


def test_a_grant_that_comes_late_is_declined_at_once(node: NodeProcess) -> None:
    stage = staged(node)
    running(node, stage)
    shown = node.server.hellos[-1].clock_ms
    assert 0 < shown <= clock_ms()
    grant(node, stage, "echo no", until_ms=shown)
    assert node.server.wait_for(facts.Declined) == facts.Declined(OTHER, 1)
    grant(node, stage, "echo yes", THIRD, until_ms=clock_ms() + LONG)
    go(node)
    assert node.server.wait_for(facts.Exited, of_run(RUN)).then == facts.Then(THIRD, 1)
