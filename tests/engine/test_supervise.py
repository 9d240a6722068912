"""What nodes report becomes what runs are; what is stale or fenced changes nothing and is answered False."""

from collections.abc import Callable

import pytest

from runyard.core.lifecycle import Exit
from runyard.core.reasons import Reason
from runyard.core.run import Finished, StateName, Storing, Waiting
from runyard.engine import control, dispatch, nodes, stage, supervise
from runyard.ports.executor import StageRequest, StoreRequest
from runyard.testing.fakes import Release
from tests.engine.yard import CANCEL, Yard, manifest

EXIT = Exit(at_ms=0, exit_code=0, signal=None)

FACTS: dict[str, Callable[[Yard, str, str, int], bool]] = {
    "began": lambda yard, node, run, attempt: supervise.began(yard.world, node, run, attempt, yard.now),
    "exited": lambda yard, node, run, attempt: supervise.exited(yard.world, node, run, attempt, EXIT),
    "lost": lambda yard, node, run, attempt: supervise.lost(
        yard.world, node, run, attempt, Reason.shim_lost, "It died."
    ),
}


@pytest.mark.parametrize("fact", FACTS)
@pytest.mark.parametrize(
    ("node", "attempt", "run"), [("n2", 1, None), ("n1", 2, None), ("n1", 0, None), ("n1", 1, "training-000000000")]
)
def test_words_about_what_is_not_theirs(yard: Yard, fact: str, node: str, attempt: int, run: str | None) -> None:
    own = yard.starting()
    before = yard.run(own)
    assert not FACTS[fact](yard, node, run or own, attempt)
    assert yard.run(own) == before


@pytest.mark.parametrize("fact", FACTS)
def test_words_about_an_attempt_that_was_followed_by_another(yard: Yard, fact: str) -> None:
    run = yard.running()
    supervise.lost(yard.world, "n1", run, 1, Reason.shim_lost, "It died.")
    yard.fakes.clock.pass_by(1000)
    dispatch.dispatch(yard.world)
    before = yard.run(run)
    assert len(before.attempts) == 2
    assert not FACTS[fact](yard, "n1", run, 1)
    assert yard.run(run) == before


def test_an_end_orders_the_store_and_writes_the_ledger(yard: Yard) -> None:
    run = yard.running()
    yard.fakes.clock.pass_by(5000)
    assert yard.ends(run, 3, log_bytes=7, tamper_proof=True)
    state = yard.run(run).state
    assert isinstance(state, Storing)
    assert (state.ending.reason, state.ending.exit_code) == (Reason.nonzero_exit, 3)
    order = yard.fakes.executor.of(StoreRequest)[0]
    assert (order.run_id, order.attempt, order.earlier_attempts, order.evidence) == (run, 1, (), "")
    entry = yard.fakes.store.ledger(run)[0]
    assert (entry.gpu_ms, entry.waste) == (5000, False)
    assert yard.ends(run, 0), "still its own, though the end is known"
    assert yard.run(run).state == state
    assert len(yard.fakes.executor.of(StoreRequest)) == 1


def test_stored_is_final_and_its_folders_may_go(yard: Yard) -> None:
    run = yard.storing()
    assert supervise.stored(yard.world, "n1", run, 2, 100)
    assert yard.run(run).state_name is StateName.completed
    assert yard.fakes.executor.of(Release) == [Release("n1", run)]
    assert not supervise.stored(yard.world, "n1", run, 2, 100)
    assert not supervise.is_current(yard.world, "n1", run, 1)


def test_only_the_machine_that_has_the_results_tells_of_them(yard: Yard) -> None:
    run = yard.storing()
    before = yard.run(run)
    assert not supervise.stored(yard.world, "n2", run, 0, 0)
    assert not supervise.store_failed(yard.world, "n2", run, "no", denied=True)
    assert yard.run(run) == before


def test_failed_tries_at_storing_are_counted_and_go_on(yard: Yard) -> None:
    run = yard.storing()
    for again in (1, 2, 3):
        assert supervise.store_failed(yard.world, "n1", run, f"try {again}", denied=again == 3)
    state = yard.run(run).state
    assert isinstance(state, Storing)
    assert (state.tries, state.problem) == (3, "try 3")


def test_a_launch_error_is_retried_after_the_machine_has_fetched_again(yard: Yard) -> None:
    run = yard.starting()
    spec = yard.run(run).spec_id
    assert yard.ends(run, None, launch_error="the code is gone")
    waiting = yard.run(run)
    assert isinstance(waiting.state, Waiting)
    assert waiting.ready_on is None
    assert not yard.world.ready.has("n1", spec)
    assert yard.fakes.store.ledger(run)[0].waste
    yard.staged(run)
    assert len(yard.fakes.executor.of(StageRequest)) == 2
    assert yard.ends(run, None, launch_error="the code is gone"), "told twice"
    assert yard.world.ready.has("n1", spec), "a word that is known does not make it fetch again"


def test_the_platforms_budget_ends(yard: Yard) -> None:
    run = yard.starting()
    for _ in range(yard.rules.retry.platform_attempts):
        supervise.lost(yard.world, "n1", run, len(yard.run(run).attempts), Reason.shim_lost, "It died.")
        assert yard.run(run).state_name is StateName.waiting
        yard.fakes.clock.pass_by(600_000)
        dispatch.dispatch(yard.world)
    supervise.lost(yard.world, "n1", run, len(yard.run(run).attempts), Reason.shim_lost, "It died.")
    assert yard.run(run).state_name is StateName.storing
    order = yard.fakes.executor.of(StoreRequest)[-1]
    assert (order.attempt, order.earlier_attempts) == (4, (1, 2, 3))


def test_canceled_while_it_starts_and_the_end_comes(yard: Yard) -> None:
    run = yard.starting()
    control.cancel(yard.world, "acme", run)
    assert FACTS["began"](yard, "n1", run, 1), "begun after all: it is stopped, not forgotten"
    assert yard.run(run).state_name is StateName.stopping
    yard.ends(run, 143, cause=CANCEL)
    state = yard.run(run).state
    assert isinstance(state, Storing)
    assert (state.ending.outcome, state.ending.reason) == (StateName.canceled, Reason.canceled)


def away(yard: Yard, node_id: str = "n1", ms: int = 600_000) -> None:
    """A machine's stream ends, and time passes."""
    nodes.disconnected(yard.world, node_id, lambda: False)
    yard.fakes.clock.pass_by(ms)


def test_a_machine_that_stays_away_is_fenced(yard: Yard) -> None:
    run, waiting = yard.running(), yard.submit()[0]
    yard.staged(waiting)
    began = yard.now
    away(yard)
    late, wake = nodes.overdue(yard.world, yard.now, began)
    assert ([node.id for node in late], wake) == (["n1"], None)
    assert nodes.fence(yard.world, "n1", began) == 1
    assert nodes.fence(yard.world, "n1", began) == 0
    state = yard.run(run).state
    assert isinstance(state, Waiting)
    assert state.previous is not None
    assert state.previous.reason is Reason.node_lost
    assert "last heard of 600 seconds before" in state.previous.detail
    assert {yard.run(each).ready_on for each in (run, waiting)} == {None}, "others may have them"
    assert yard.fakes.store.nodes()[0].seen_ms == began, "it was not seen meanwhile"
    fenced = yard.run(run)
    FACTS["exited"](yard, "n1", run, 1)
    assert yard.run(run) == fenced, "its late word changes nothing"
    yard.join("n2")
    stage.stage(yard.world, yard.run(waiting).spec_id)
    assert yard.fakes.executor.of(StageRequest)[-1].node_id == "n2"


def test_what_a_lost_machine_was_fetching_is_asked_of_another(yard: Yard) -> None:
    run = yard.submit()[0]
    spec = yard.run(run).spec_id
    stage.stage(yard.world, spec)
    away(yard)
    yard.join("n2")
    stage.stage(yard.world, spec)
    assert [order.node_id for order in yard.fakes.executor.of(StageRequest)] == ["n1"]
    nodes.fence(yard.world, "n1", 0)
    stage.stage(yard.world, spec)
    assert [order.node_id for order in yard.fakes.executor.of(StageRequest)] == ["n1", "n2"]


def test_results_on_a_machine_that_is_away_are_waited_for_until_canceled(yard: Yard) -> None:
    run = yard.storing()
    away(yard)
    nodes.fence(yard.world, "n1", 0)
    assert yard.run(run).state_name is StateName.storing
    control.cancel(yard.world, "acme", run)
    state = yard.run(run).state
    assert isinstance(state, Finished)
    assert "what was stored by then is kept" in state.note


def test_evidence_of_staging_is_stored_by_another_machine(yard: Yard) -> None:
    run = yard.submit(manifest(data="data"), force=True)[0]
    yard.join("n2")
    stage.stage(yard.world, yard.run(run).spec_id)
    assert yard.fakes.executor.of(StoreRequest)[-1].node_id == "n1"
    away(yard)
    nodes.fence(yard.world, "n1", 0)
    order = yard.fakes.executor.of(StoreRequest)[-1]
    assert (order.node_id, order.attempt) == ("n2", 0)
    assert "There is no bucket data" in order.evidence
    assert supervise.stored(yard.world, "n2", run, 1, 10)
    assert yard.run(run).state_name is StateName.failed
