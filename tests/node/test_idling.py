"""A real node and programs that do nothing: what is seen, what is told, what a restart leaves of it."""

from pathlib import Path

from runyard.core.gpus import Sight
from runyard.node.home import AttemptFolder, Home
from runyard.node.idling import cpu_of
from runyard.wire import facts, orders
from tests.node.nodes import OTHER, RUN, NodeProcess, launch_of, of_run, running_node, stage_of
from tests.support.gpus import pretend
from tests.support.waiting import wait_until

WAITS = "while [ ! -e $CHECKPOINT_DIR/go ]; do sleep 1; done; for n in $(seq 600); do echo on; sleep 0.3; done"
SILENT = "sleep 600"


def told(node: NodeProcess, run: str) -> list[tuple[str, int]]:
    """What was told of a run, each kind once for each time it was sent."""
    return [(fact.kind, fact.at_ms) for fact in node.server.facts if isinstance(fact, facts.Quiet) and fact.run == run]


def test_a_silent_program_is_told_once_and_again_after_a_restart_and_that_it_goes_on(tmp_path: Path) -> None:
    with running_node(tmp_path) as node:
        stage = stage_of(node.server, {})
        node.server.give(launch_of(stage, "echo begun; " + WAITS, slots=(0,), idle_ms=1500))
        node.server.give(launch_of(stage, SILENT, run=OTHER, slots=(1,), idle_ms=1500))
        node.server.wait(lambda: bool(told(node, RUN)) and bool(told(node, OTHER)), "both are told", 60)
        assert [kind for kind, _ in told(node, RUN)] == ["hung"], "it had logged"
        assert [kind for kind, _ in told(node, OTHER)] == ["idle"]
        began = node.server.wait_for(facts.Began, of_run(RUN)).at_ms
        since = told(node, RUN)[0][1]
        assert since >= began - 1000
        node.kill()
        node.start()
        node.server.wait(lambda: len(told(node, RUN)) > 1, "it is told again to who may not know", 60)
        assert set(told(node, RUN)) == {("hung", since)}, "the same, not anew"
        (node.home / "runs" / RUN / "checkpoints" / "go").touch()
        node.server.wait(lambda: told(node, RUN)[-1][0] == "", "it goes on", 60)


def test_what_computes_or_whose_gpu_does_is_not_quiet_and_who_does_not_ask_is_not_looked_at(tmp_path: Path) -> None:
    with running_node(tmp_path, "--fake-gpus", "4") as node:
        pretend(node.home, {1: Sight(0, busy=50)})
        stage = stage_of(node.server, {})
        other = RUN[:-1] + ("a" if RUN[-1] != "a" else "b")
        node.server.give(launch_of(stage, SILENT, slots=(1,), idle_ms=4000))
        node.server.give(launch_of(stage, "while :; do :; done", run=other, slots=(2,), idle_ms=4000))
        node.server.give(launch_of(stage, SILENT, run=OTHER, slots=(0,), idle_ms=0))
        for run in (RUN, other, OTHER):
            node.server.wait_for(facts.Began, of_run(run))
        begun = _cpu(node, other)
        # A round comes every 5 s: by then each has been looked at.
        wait_until(lambda: _cpu(node, other) - begun > 7000, "it has computed for longer than that", 120)
        assert [fact for fact in node.server.facts if isinstance(fact, facts.Quiet)] == []
        pretend(node.home)
        node.server.wait(lambda: bool(told(node, RUN)), "its GPU has stopped", 60)
        assert told(node, RUN)[0][0] == "hung", "it had used its GPU"
        node.server.give(orders.Stop(other, 1, "cancel", 0))
        node.server.wait_for(facts.Exited, of_run(other))


def _cpu(node: NodeProcess, run: str) -> int:
    return cpu_of([Home(str(node.home)).attempt(run, 1)]) or 0


def test_nobody_knows_the_processor_time_of_what_never_began(tmp_path: Path) -> None:
    assert cpu_of([AttemptFolder("r", 1, str(tmp_path / "none"))]) is None
