"""What is made of the same as an earlier submission is ordered and started in the same breath; a wrong guess costs
nobody anything."""

from typing import Any

import pytest

from runyard.core.reasons import Reason
from runyard.core.run import StateName, Storing, Waiting
from runyard.engine import dispatch, stage, supervise
from runyard.engine.bell import DISPATCH, STAGE
from runyard.engine.known import MOST_AT_ONCE
from runyard.ports.executor import LaunchRequest, StageRequest
from runyard.ports.store import Definition
from tests.engine.yard import OTHER, Yard, manifest

WITH_DATA = manifest(data="data")


def asked(yard: Yard, run: str) -> StageRequest:
    """The order to make a run's spec ready, after its turn."""
    yard.fakes.executor.take()
    stage.stage(yard.world, yard.run(run).spec_id)
    (order,) = yard.fakes.executor.of(StageRequest)
    return order


def known(yard: Yard, text: str | None = None) -> None:
    """A submission was made ready on the machine, and is over."""
    yard.fakes.objects.put("acme", "data", a=b"1")
    run = yard.running(text)
    yard.fakes.clock.pass_by(60_000)  # too long to be granted ahead
    yard.ends(run)
    supervise.stored(yard.world, "n1", run, 2, 100)
    assert yard.run(run).state_name is StateName.completed


def test_the_second_of_a_kind_starts_on_the_heels_of_its_order(yard: Yard) -> None:
    known(yard, WITH_DATA)
    run = yard.submit(WITH_DATA)[0]
    yard.bell.rung.clear()
    assert asked(yard, run).guessed
    assert DISPATCH in yard.bell.rung
    assert yard.run(run).ready_on == "n1"
    assert not yard.world.ready.asked(yard.run(run).spec_id)
    dispatch.dispatch(yard.world)
    launch = yard.fakes.executor.of(LaunchRequest)[-1]
    assert (launch.run_id, launch.attempt, launch.stage.listed) == (run, 1, False)
    yard.bell.rung.clear()
    assert not stage.staged(yard.world, "n1", yard.run(run).spec_id)
    assert not yard.bell.rung, "nobody has waited for that"


@pytest.mark.parametrize("change", ["code", "data", "environment", "account", "machine"])
def test_another_kind_is_asked_for(yard: Yard, change: str) -> None:
    text, more = WITH_DATA, dict[str, Any]()
    known(yard, text)
    if change == "code":
        more["definition"] = "c" * 64
        yard.fakes.store.add_definition(Definition("acme", "c" * 64, 10, yard.now))
    elif change == "data":
        yard.fakes.objects.put("acme", "data", a=b"22")
    elif change == "environment":
        text += "runyard: {python: /opt/python}\n"
    elif change == "account":
        yard.fakes.objects.put("other", "data", a=b"1")
        more["who"] = OTHER
    else:
        yard.join()  # it has made room in its cache
    order = asked(yard, yard.submit(text, **more)[0])
    assert not order.guessed
    assert yard.world.ready.asked(order.spec_id)


def test_a_wrong_guess_is_no_attempt_of_anybodys_and_no_bill(yard: Yard) -> None:
    known(yard, WITH_DATA)
    run, waits = yard.submit(WITH_DATA, parameters=({}, {}, {}))[0::2]
    spec = yard.run(run).spec_id
    asked(yard, run)
    dispatch.dispatch(yard.world)
    yard.fakes.clock.pass_by(5_000)
    assert yard.ends(run, None, launch_error="It has to fetch first.")
    first, state = yard.run(run), yard.run(run).state
    assert isinstance(state, Waiting)
    assert (state.not_before_ms, first.ready_on) == (yard.now, None)
    attempt = first.attempts[0]
    assert attempt.ending is not None
    assert attempt.ending.reason is Reason.not_ready
    assert attempt.released_ms == attempt.assigned_ms
    (entry,) = yard.fakes.store.ledger(run)
    assert (entry.to_ms - entry.from_ms, entry.cost) == (0, 0)
    dispatch.dispatch(yard.world)
    assert yard.run(waits).ready_on is None, "what waits is fetched as well"
    assert not asked(yard, run).guessed
    stage.staged(yard.world, "n1", spec)
    dispatch.dispatch(yard.world)
    assert [launch.attempt for launch in yard.fakes.executor.of(LaunchRequest) if launch.run_id == run] == [2]
    supervise.began(yard.world, "n1", run, 2, yard.now)
    yard.ends(run, 1)
    assert isinstance(yard.run(run).state, Storing), "its own failure is its own"


def test_a_guess_that_cannot_be_made_good_fails_as_it_would_have(yard: Yard) -> None:
    known(yard, WITH_DATA)
    runs = yard.submit(WITH_DATA, parameters=({},) * 5)
    spec = yard.run(runs[0]).spec_id
    asked(yard, runs[0])
    dispatch.dispatch(yard.world)  # two of them start
    assert stage.failed(yard.world, "n1", spec, Reason.environment_failed, "Not to be had.", "no\n")
    assert [yard.run(run).state_name for run in runs[2:]] == [StateName.storing] * 3
    for run in runs[:2]:
        yard.ends(run, None, launch_error="Not to be had.")
        assert yard.run(run).state_name is StateName.waiting
    assert not asked(yard, runs[0]).guessed
    stage.failed(yard.world, "n1", spec, Reason.environment_failed, "Not to be had.", "no\n")
    ends = [yard.run(run).state for run in runs]
    assert all(isinstance(end, Storing) and end.ending.reason is Reason.environment_failed for end in ends)


def test_what_has_no_data_and_is_known_is_accepted_as_ready(yard: Yard) -> None:
    known(yard)
    yard.fakes.executor.take()
    yard.bell.rung.clear()
    first, second = yard.submit(parameters=({}, {}))
    (order,) = yard.fakes.executor.of(StageRequest)
    assert (order.node_id, order.spec_id, order.guessed) == ("n1", yard.run(first).spec_id, True)
    assert order.warm is not None
    assert DISPATCH in yard.bell.rung
    assert STAGE not in yard.bell.rung, "there is nothing to be asked for"
    for run in (first, second):
        assert (yard.run(run).ready_on, yard.run(run).staged_ms) == ("n1", yard.now)
        assert [each.event.kind.value for each in yard.fakes.store.events(0, 100, run_id=run)] == ["accepted", "staged"]
    dispatch.dispatch(yard.world)
    launches = yard.fakes.executor.of(LaunchRequest)
    assert [(each.run_id, each.stage.listed) for each in launches] == [(first, False), (second, False)]


@pytest.mark.parametrize("change", ["code", "environment", "account", "machine", "drained", "size", "after", "many"])
def test_what_is_not_known_or_cannot_start_is_asked_for(yard: Yard, change: str) -> None:
    known(yard)
    text, more = manifest(), dict[str, Any]()
    if change == "code":
        more["definition"] = "c" * 64
        yard.fakes.store.add_definition(Definition("acme", "c" * 64, 10, yard.now))
    elif change == "environment":
        text += "runyard: {python: /opt/python}\n"
    elif change == "account":
        more["who"] = OTHER
    elif change == "machine":
        yard.join()
    elif change == "drained":
        yard.fakes.store.set_draining("n1", yard.now)
    elif change == "size":
        yard.join("n2", gpus=64)
        text = manifest(size="large")
    elif change == "after":
        text += f"runyard: {{after: [{yard.submit()[0]}]}}\n"
    else:
        more["parameters"] = ({},) * (MOST_AT_ONCE + 1)
    yard.bell.rung.clear()
    run = yard.submit(text, **more)[0]
    assert yard.run(run).ready_on is None
    assert STAGE in yard.bell.rung


def test_a_machine_that_loses_it_after_the_acceptance_is_asked(yard: Yard) -> None:
    known(yard)
    run = yard.submit()[0]
    yard.join()  # it names what it has: not this
    yard.bell.rung.clear()
    dispatch.dispatch(yard.world)
    assert yard.run(run).ready_on is None
    assert not yard.fakes.executor.of(LaunchRequest)[1:], "the first was of the run before"
    assert not asked(yard, run).guessed
