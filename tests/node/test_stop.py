"""Stops: of a running program, of one that never began, of one still being prepared."""

from runyard.wire import facts, orders
from tests.node.nodes import RUN, NodeProcess, launch_of, marked, stage_of
from tests.support.waiting import wait_until


def stop(grace_ms: int = 10_000, cause: str = "cancel", attempt: int = 1) -> orders.Stop:
    return orders.Stop(RUN, attempt, cause, grace_ms)


def started(node: NodeProcess, command: str) -> None:
    node.server.give(launch_of(stage_of(node.server, {}), command))
    node.server.wait(lambda: b"ready" in node.server.log(RUN), "the program's first line")


def test_the_whole_tree_is_told_and_ends(node: NodeProcess) -> None:
    started(
        node, "trap 'echo told; exit 3' TERM; sleep 1000 & setsid sleep 1000 & echo ready; while :; do sleep 0.05; done"
    )
    node.server.give(stop())
    exited = node.server.wait_for(facts.Exited)
    assert (exited.cause, exited.exit_code) == ("cancel", 3)
    node.server.wait(lambda: b"told" in node.server.log(RUN), "the program's last line")
    wait_until(lambda: not marked(RUN), "the end of everything")


def test_one_that_does_not_listen_is_killed_after_its_grace(node: NodeProcess) -> None:
    started(node, "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    node.server.give(stop(grace_ms=200))
    exited = node.server.wait_for(facts.Exited)
    assert (exited.cause, exited.signal) == ("cancel", 9)


def test_a_stop_for_an_attempt_that_is_not_here_sees_that_it_never_begins(node: NodeProcess) -> None:
    node.server.give(stop())
    exited = node.server.wait_for(facts.Exited)
    assert (exited.cause, exited.exit_code, exited.signal, exited.launch_error) == ("cancel", None, None, None)
    node.server.give(launch_of(stage_of(node.server, {}), "echo never > $RESULT_DIR/x"))
    node.server.wait(lambda: len([f for f in node.server.facts if isinstance(f, facts.Exited)]) > 1, "the same again")
    assert not (node.attempt() / "own").exists()
    assert not any(isinstance(fact, facts.Began) for fact in node.server.facts)


def test_a_stop_overtakes_a_launch_that_waits_for_its_code(node: NodeProcess) -> None:
    missing = orders.Stage(9, "ab" * 32)
    node.server.definitions_gate.clear()
    node.server.give(launch_of(missing, "true"))
    node.server.wait(lambda: any("definitions" in line for line in node.server.requests), "the request for the code")
    node.server.give(stop())
    assert node.server.wait_for(facts.Exited).cause == "cancel"
    node.server.definitions_gate.set()


def test_the_time_limit_is_the_shims(node: NodeProcess) -> None:
    node.server.give(launch_of(stage_of(node.server, {}), "sleep 1000", max_runtime_ms=300))
    assert node.server.wait_for(facts.Exited).cause == "time_limit"
