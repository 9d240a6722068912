"""A real node with pretended GPUs: strangers, errors, restarts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard.core.gpus import GIB, Holder, Sight
from runyard.wire import facts, orders
from tests.node.nodes import OTHER, RUN, NodeProcess, launch_of, of_run, running_node, stage_of
from tests.support.gpus import pretend

FAILS_LATER = "while [ ! -e $CHECKPOINT_DIR/go ]; do sleep 0.05; done; exit 7"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    with running_node(tmp_path, "--gpu-strangers", "1024") as node:
        yield node


def gpu_states(node: NodeProcess) -> list[tuple[facts.ShutGpu, ...]]:
    return [fact.shut for fact in node.server.facts if isinstance(fact, facts.GpuState)]


def ended(node: NodeProcess, run: str, attempt: int = 1) -> facts.Exited:
    return node.server.wait_for(facts.Exited, of_run(run, attempt))


def test_a_start_waits_for_strangers_to_let_go_and_the_gpu_beside_is_given(node: NodeProcess) -> None:
    server = node.server
    pretend(node.home, {0: Sight(12 * GIB, (Holder(2, 12 * GIB),))})
    stage = stage_of(server, {})
    server.give(launch_of(stage, "exit 0", slots=(0,)))
    refused = ended(node, RUN)
    assert refused.launch_reason == "gpu_taken"
    assert refused.launch_error is not None
    assert refused.launch_error.startswith("GPU 0 of n1: 12.0 GiB are held by a process that is not Runyard's")
    ((shut,),) = gpu_states(node)
    assert (shut.slots, shut.sentence, shut.error) == ((0,), refused.launch_error, False)
    order = [type(fact) for fact in server.facts if isinstance(fact, facts.GpuState | facts.Exited)]
    assert order == [facts.GpuState, facts.Exited], "nobody gives the same slot in between"
    server.give(launch_of(stage, "exit 0", run=OTHER, slots=(1,)))
    assert ended(node, OTHER).exit_code == 0
    pretend(node.home)
    server.wait(lambda: gpu_states(node)[-1] == (), "it is free by itself")
    server.give(launch_of(stage, "exit 0", attempt=2, slots=(0,)))
    assert ended(node, RUN, 2).exit_code == 0


def test_strangers_are_seen_when_a_run_is_made_ready_and_when_the_node_starts(node: NodeProcess) -> None:
    pretend(node.home, {1: Sight(2 * GIB)})
    node.server.give(stage_of(node.server, {}))
    node.server.wait(lambda: [[each.slots for each in shut] for shut in gpu_states(node)] == [[(1,)]], "it is seen")
    node.end()
    node.start()
    assert [each.slots for each in node.server.hellos[-1].shut] == [(1,)]


def test_a_hardware_error_drains_the_gpu_and_the_failure_after_it_is_the_machines(node: NodeProcess) -> None:
    server = node.server
    stage = stage_of(server, {})
    for run, slot in ((RUN, 0), (OTHER, 1)):
        server.give(launch_of(stage, FAILS_LATER, run=run, slots=(slot,)))
        server.wait_for(facts.Began, of_run(run))
    pretend(node.home, xids=[(0, 31), (0, 79)])
    told = server.wait_for(facts.GpuError)
    assert (told.run, told.attempt) == (RUN, 1)
    assert told.detail == "GPU 0 of n1 reported XID 79 (it has fallen off the bus)."
    server.wait(lambda: bool(gpu_states(node)), "it is kept back")
    assert [(each.slots, each.error) for each in gpu_states(node)[-1]] == [((0,), True)]
    node.kill()
    node.start()
    assert [(each.slots, each.error) for each in server.hellos[-1].shut] == [((0,), True)], "a restart forgets nothing"
    for run in (RUN, OTHER):
        (node.home / "runs" / run / "checkpoints" / "go").touch()
    assert ended(node, RUN).gpu_error == told.detail
    assert ended(node, OTHER).gpu_error == "", "it was on another one"
    server.give(launch_of(stage, "exit 0", attempt=2, slots=(0,)))
    assert ended(node, RUN, 2).launch_reason == "gpu_taken"
    server.give(orders.PutBack())
    server.wait(lambda: gpu_states(node)[-1] == (), "it is put back")
    server.give(launch_of(stage, "exit 0", attempt=3, slots=(0,)))
    assert ended(node, RUN, 3).exit_code == 0


@pytest.mark.parametrize("sight", [Sight(0, uncorrected=1), Sight(0, pending=True)], ids=["errors", "pending"])
def test_counters_keep_a_gpu_back_until_they_are_well(node: NodeProcess, sight: Sight) -> None:
    pretend(node.home, {0: sight})
    node.server.give(stage_of(node.server, {}))
    node.server.wait(lambda: bool(gpu_states(node)), "it is kept back")
    states = len(gpu_states(node))
    node.server.give(orders.PutBack())
    node.server.wait(lambda: len(gpu_states(node)) > states, "it is looked at again")
    assert [each.error for each in gpu_states(node)[-1]] == [True]
    pretend(node.home)
    node.server.give(orders.PutBack())
    node.server.wait(lambda: gpu_states(node)[-1] == (), "it is put back")


def test_an_operator_can_switch_both_off(tmp_path: Path) -> None:
    with running_node(tmp_path, "--gpu-strangers", "0", "--ignore-gpu-errors") as node:
        pretend(node.home, {0: Sight(70 * GIB, uncorrected=3)}, xids=[(0, 79)])
        node.server.give(launch_of(stage_of(node.server, {}), "exit 0", slots=(0,)))
        assert ended(node, RUN).exit_code == 0
        assert gpu_states(node) == []
