"""Release: nothing of a run stays, but not before its log is with the server."""

from runyard.wire import facts, orders
from tests.node.nodes import OTHER, RUN, NodeProcess, launch_of, marked, of_run, run_to_end, stage_of
from tests.support.waiting import wait_until


def is_gone(node: NodeProcess, run: str = RUN) -> bool:
    return not (node.home / "runs" / run).exists()


def started(node: NodeProcess, run: str = RUN, attempt: int = 1) -> None:
    node.server.give(
        launch_of(stage_of(node.server, {}), "trap '' TERM; echo ready; while :; do sleep 0.05; done", run, attempt)
    )
    node.server.wait(lambda: b"ready" in node.server.log(run, attempt), "the program's first line")


def test_a_running_program_is_ended_and_its_folders_go(node: NodeProcess) -> None:
    started(node)
    node.server.give(orders.Release(RUN))
    wait_until(lambda: is_gone(node), "the release")
    assert not marked(RUN)


def test_folders_stay_until_the_log_is_shipped(node: NodeProcess) -> None:
    node.server.log_status = 503
    node.server.give(launch_of(stage_of(node.server, {}), "seq 100000"))
    node.server.wait_for(facts.Exited)
    node.server.give(orders.Release(RUN))
    node.server.wait(lambda: sum("/ranges" in line for line in node.server.requests) > 5, "tries")
    assert not is_gone(node)
    node.server.log_status = 0
    wait_until(lambda: is_gone(node), "the release")
    assert node.server.log(RUN) == "".join(f"{n}\n" for n in range(1, 100_001)).encode()


def test_a_log_that_nobody_wants_holds_nothing_up(node: NodeProcess) -> None:
    node.server.log_status = 404
    node.server.give(launch_of(stage_of(node.server, {}), "echo x"))
    node.server.wait_for(facts.Exited)
    node.server.give(orders.Release(RUN))
    wait_until(lambda: is_gone(node), "the release")


def test_a_resync_releases_every_run_that_is_not_in_it(node: NodeProcess) -> None:
    started(node)
    started(node, OTHER)
    node.server.forget(RUN)
    node.server.cut_streams()
    wait_until(lambda: is_gone(node), "the release")
    assert not is_gone(node, OTHER)
    assert marked(OTHER)


def test_a_release_while_there_was_no_node_is_made_good(node: NodeProcess) -> None:
    started(node)
    node.kill()
    node.server.forget(RUN)
    node.start()
    wait_until(lambda: is_gone(node) and not marked(RUN), "the release")


def test_a_new_attempt_ends_an_older_one_that_the_server_gave_up(node: NodeProcess) -> None:
    started(node)
    node.server.forget(RUN)
    node.server.give(launch_of(stage_of(node.server, {}), "echo second", attempt=2))
    assert node.server.wait_for(facts.Exited, of_run(RUN, 2)).exit_code == 0
    assert node.server.wait_for(facts.Exited, of_run(RUN, 1)).cause == "fenced"


def test_a_launch_that_comes_while_its_run_is_released_waits_for_that(node: NodeProcess) -> None:
    node.server.log_status = 503
    node.server.give(launch_of(stage_of(node.server, {}), "echo one"))
    node.server.wait_for(facts.Exited)
    node.server.give(orders.Release(RUN))
    node.server.give(launch_of(stage_of(node.server, {}), "echo two", attempt=2))
    node.server.wait(lambda: sum("/ranges" in line for line in node.server.requests) > 5, "tries")
    node.server.log_status = 0
    assert node.server.wait_for(facts.Exited, of_run(RUN, 2)).exit_code == 0
    node.server.wait(lambda: node.server.log(RUN, 2) != b"", "the log")
    assert node.server.log(RUN, 1) == b"one\n"
    assert not (node.home / "runs" / RUN / "attempts" / "1").exists()


def test_a_run_can_come_back_after_its_release(node: NodeProcess) -> None:
    run_to_end(node, "echo one")
    node.server.give(orders.Release(RUN))
    wait_until(lambda: is_gone(node), "the release")
    node.server.facts.clear()
    run_to_end(node, "echo two", attempt=2)
    assert node.server.log(RUN, 2) == b"two\n"
