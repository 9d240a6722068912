"""GPUs that a machine keeps back: what waits for them is told why, and what failed on them runs again elsewhere."""

from runyard.core.reasons import Reason
from runyard.core.run import Waiting
from runyard.engine import dispatch, draining, nodes, queries
from runyard.engine.gpus import ShutGpu
from runyard.ports.executor import LaunchRequest
from runyard.testing.fakes import PutBack
from tests.engine.yard import Yard

HELD = ShutGpu((0,), "GPU 0 of n1: 12.3 GiB are held by a process that is not Runyard's (pid 4711, python3).")
BROKEN = ShutGpu((0,), "GPU 0 of n1 reported XID 79 (it has fallen off the bus): it is given to no run.", error=True)


def why(yard: Yard, run_id: str) -> str:
    return queries.explain(yard.world, yard.run(run_id)).sentence


def test_a_slot_that_strangers_hold_is_not_given_and_told(yard: Yard) -> None:
    yard.join(gpus=1)
    nodes.told_of_gpus(yard.world, "n1", [HELD])
    (run_id,) = yard.submit()
    yard.staged(run_id)
    dispatch.dispatch(yard.world)
    assert isinstance(yard.run(run_id).state, Waiting)
    assert HELD.sentence in why(yard, run_id)
    nodes.told_of_gpus(yard.world, "n1", [])
    dispatch.dispatch(yard.world)
    assert yard.fakes.executor.of(LaunchRequest)[-1].slots == (0,)


def test_another_slot_is_given_meanwhile(yard: Yard) -> None:
    yard.join(gpus=2)
    nodes.told_of_gpus(yard.world, "n1", [HELD])
    yard.starting()
    assert yard.fakes.executor.of(LaunchRequest)[-1].slots == (1,)


def test_what_came_too_late_to_be_known_waits_again_and_costs_nothing(yard: Yard) -> None:
    yard.join(gpus=1)
    run_id = yard.starting()
    nodes.told_of_gpus(yard.world, "n1", [HELD])
    assert yard.ends(run_id, None, launch_error=HELD.sentence, launch_reason=Reason.gpu_taken)
    run = yard.run(run_id)
    assert isinstance(run.state, Waiting)
    (attempt,) = run.attempts
    assert attempt.released_ms == attempt.assigned_ms
    yard.staged(run_id)
    dispatch.dispatch(yard.world)
    assert len(yard.run(run_id).attempts) == 1
    assert HELD.sentence in why(yard, run_id)


def test_a_failure_after_an_error_of_its_gpu_is_tried_on_another(yard: Yard) -> None:
    yard.join(gpus=2)
    run_id = yard.running()
    assert yard.fakes.executor.of(LaunchRequest)[-1].slots == (0,)
    nodes.told_of_gpus(yard.world, "n1", [BROKEN])
    yard.ends(run_id, 1, gpu_error="GPU 0 of n1 reported XID 79.")
    assert "A GPU of the machine failed while the program ran. GPU 0 of n1 reported XID 79." in why(yard, run_id)
    yard.fakes.clock.pass_by(60_000)
    dispatch.dispatch(yard.world)
    assert yard.fakes.executor.of(LaunchRequest)[-1].slots == (1,)


def test_resume_puts_gpus_back(yard: Yard) -> None:
    yard.join()
    draining.resume(yard.world, "n1")
    assert yard.fakes.executor.of(PutBack) == [PutBack("n1")]
