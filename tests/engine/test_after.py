"""Runs that wait for other runs."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from runyard.core.errors import Refused
from runyard.core.reasons import Reason
from runyard.core.run import BLOCKED, Finished, StateName, StopCause, Waiting
from runyard.engine import after, control, dispatch, queries, stage, supervise
from runyard.ports.store import Submission
from runyard.testing.fakes import Fakes
from runyard.testing.memory_store import MemoryStore
from tests.engine.yard import OTHER, Yard, manifest


def waiting_for(*ids: str, more: str = "") -> str:
    return manifest(extra=f"runyard: {{after: [{', '.join(ids)}]{more}}}\n")


def states(yard: Yard, *ids: str) -> list[str]:
    return [yard.run(run_id).state_name.value for run_id in ids]


def test_it_is_staged_waits_says_for_whom_and_starts_when_that_has_completed(yard: Yard) -> None:
    first = yard.running()
    second = yard.submit(waiting_for(first))[0]
    assert yard.run(second).state == Waiting(BLOCKED)
    yard.staged(second)
    plan = dispatch.dispatch(yard.world)
    assert (plan.starts, plan.wake_at_ms) == ((), None)
    shown = queries.show(yard.world, yard.run(second))
    assert (shown.readiness, shown.position, shown.estimate) == ("after", None, None)
    assert shown.sentence == f"Waits for {first} (running) to complete."
    assert shown.after == (first,)
    seen = yard.fakes.store.last_seq()
    yard.ends(first)
    assert after.catch_up(yard.world, seen) >= seen
    assert states(yard, second) == ["waiting"]  # its results are not stored yet
    assert yard.run(second).state == Waiting(BLOCKED)
    supervise.stored(yard.world, "n1", first, 1, 1)
    assert "after" in yard.bell.rung
    seen = after.catch_up(yard.world, seen)
    assert yard.run(second).state == Waiting()
    dispatch.dispatch(yard.world)
    assert states(yard, second) == ["starting"]
    assert after.catch_up(yard.world, seen) == yard.fakes.store.last_seq()


@pytest.mark.parametrize("how", ["failed", "canceled"])
def test_one_that_does_not_complete_takes_all_behind_it_along(yard: Yard, how: str) -> None:
    first = yard.running()
    second = yard.submit(waiting_for(first))[0]
    third = yard.submit(waiting_for(second))[0]
    if how == "failed":
        yard.ends(first, 1)
        supervise.stored(yard.world, "n1", first, 1, 1)
    else:
        control.cancel(yard.world, "acme", first)
        yard.ends(first, 143, cause=StopCause.cancel)
        supervise.stored(yard.world, "n1", first, 1, 1)
    seen = after.catch_up(yard.world, 0)
    after.catch_up(yard.world, seen)
    assert states(yard, second, third) == ["canceled", "canceled"]
    for run_id, other, words in ((second, first, "failed" if how == "failed" else "was canceled"),
                                 (third, second, "was canceled")):  # fmt: skip
        state = yard.run(run_id).state
        assert isinstance(state, Finished)
        assert state.ending.reason is Reason.dependency_failed
        assert state.ending.detail == f"{other} {words}."
        assert f"{other} {words}." in queries.told(yard.world, yard.run(run_id))


def test_all_of_several_must_complete_and_the_first_that_does_not_decides(yard: Yard) -> None:
    done, one, two = yard.finished(), yard.running(), yard.running()
    both = yard.submit(waiting_for(done, one, two))[0]
    assert queries.told(yard.world, yard.run(both)) == "Waits for other runs to complete (`after`)."
    assert after.sentence(yard.world, yard.run(both)) == (
        f"Waits for 2 runs to complete: {one} (running), {two} (running)."
    )
    yard.ends(one)
    supervise.stored(yard.world, "n1", one, 1, 1)
    seen = after.catch_up(yard.world, 0)
    assert yard.run(both).state == Waiting(BLOCKED)
    yard.ends(two)
    supervise.stored(yard.world, "n1", two, 1, 1)
    after.catch_up(yard.world, seen)
    assert yard.run(both).state == Waiting()


def test_a_run_after_completed_ones_waits_for_nothing(yard: Yard) -> None:
    run = yard.submit(waiting_for(yard.finished()))[0]
    assert yard.run(run).state == Waiting()


def test_what_can_never_complete_is_refused(yard: Yard) -> None:
    foreign = yard.submit(who=OTHER)[0]
    canceled = yard.submit()[0]
    control.cancel(yard.world, "acme", canceled)
    for run_id, words in (("training-a1B2c3D4e", "no training run"), (foreign, "no training run"),
                          (canceled, "was canceled")):  # fmt: skip
        for force in (False, True):
            with pytest.raises(Refused, match=f"{run_id}.*|.*{words}.*") as refusal:
                yard.submit(waiting_for(run_id), force=force)
            assert run_id in refusal.value.message
            assert words in refusal.value.message
    with pytest.raises(Refused, match="300 runs that wait for 1000 others are too many"):
        yard.submit(
            waiting_for(*(f"training-{n:09d}" for n in range(1000))),
            parameters=tuple({"lr": n} for n in range(300)),
            force=True,
        )


class BusyStore(MemoryStore):
    """A store in which something happens just before a submission is committed."""

    meanwhile: Callable[[], None] | None = None

    def submit(self, submission: Submission) -> tuple[tuple[str, ...], bool]:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().submit(submission)


@pytest.mark.parametrize("late", ["finished", "failed", "deleted after it completed", "deleted after it failed"])
def test_one_that_ends_between_the_check_and_the_commit_is_seen(late: str) -> None:
    store = BusyStore()
    yard = Yard(Fakes(store=store))
    yard.join()
    first = yard.running()

    def end() -> None:
        yard.ends(first, 0 if "finished" in late or "completed" in late else 1)
        supervise.stored(yard.world, "n1", first, 1, 1)
        if "deleted" in late:
            control.delete(yard.world, "acme", first, with_results=False)

    store.meanwhile = end
    second = yard.submit(waiting_for(first))[0]
    if "finished" in late or "completed" in late:
        assert yard.run(second).state == Waiting()
    else:
        assert states(yard, second) == ["canceled"]
        word = "was deleted before it completed" if "deleted" in late else "failed"
        assert f"{first} {word}." in queries.told(yard.world, yard.run(second))


def test_a_start_looks_at_all_that_were_left(yard: Yard) -> None:
    first, other = yard.running(), yard.running()
    freed = yard.submit(waiting_for(first), parameters=tuple({"lr": n} for n in range(700)), force=True)
    kept = yard.submit(waiting_for(other))[0]
    yard.ends(first)
    supervise.stored(yard.world, "n1", first, 1, 1)
    world = yard.restart()
    after.look_at_all(world)
    assert {yard.run(run_id).state for run_id in freed} == {Waiting()}
    assert yard.run(kept).state == Waiting(BLOCKED)


async def turning(yard: Yard, first: str, left: str) -> None:
    yard.bell.attach(asyncio.get_running_loop())
    station = asyncio.create_task(after.turn(yard.world))
    try:
        with yard.bell.listen("dispatch") as ear:
            yard.ends(first)
            supervise.stored(yard.world, "n1", first, 1, 1)
            async with asyncio.timeout(20):
                while yard.run(left).state != Waiting():
                    await ear.wait()
    finally:
        station.cancel()
        with suppress(asyncio.CancelledError):
            await station


def test_the_station_is_woken_by_the_end_of_a_run(yard: Yard) -> None:
    first = yard.running()
    left = yard.submit(waiting_for(first))[0]
    asyncio.run(turning(yard, first, left))


def test_staging_that_fails_and_a_cancel_end_one_that_waits(yard: Yard) -> None:
    first = yard.running()
    second, third = (yard.submit(waiting_for(first, more=f", tags: [t{n}]"))[0] for n in range(2))
    control.cancel(yard.world, "acme", second)
    stage.failed(yard.world, "n1", yard.run(third).spec_id, Reason.code_invalid, "not a zip", "")
    assert states(yard, second, third) == ["canceled", "storing"]
    yard.ends(first)
    supervise.stored(yard.world, "n1", first, 1, 1)
    after.catch_up(yard.world, 0)
    assert states(yard, second, third) == ["canceled", "storing"]


def test_a_replay_changes_nothing(yard: Yard) -> None:
    first = yard.running()
    second = yard.submit(waiting_for(first), idempotency_key="k", digest="d")
    yard.ends(first, 1)
    supervise.stored(yard.world, "n1", first, 1, 1)
    after.catch_up(yard.world, 0)
    assert yard.submit(waiting_for(first), idempotency_key="k", digest="d") == second
    assert states(yard, *second) == [StateName.canceled.value]
