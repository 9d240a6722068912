"""The stations turning by themselves: woken by bells alone, and none stops for the trouble of another."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from runyard.core.run import Running, StateName
from runyard.engine import control, loops, nodes, stage, supervise
from runyard.engine.world import Rules
from runyard.ports.executor import LaunchRequest, StageRequest
from runyard.ports.objects import Checked, Verdict
from runyard.testing.fakes import Fakes
from runyard.testing.memory_store import MemoryStore
from tests.engine.yard import Yard, manifest


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition with a deadline."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)
    assert condition(), what


def turning(yard: Yard, story: Callable[[], Awaitable[None]]) -> None:
    """Tell a story while the stations turn."""

    async def live() -> None:
        await loops.prepare(yard.world)
        task = asyncio.create_task(loops.turn_all(yard.world))
        try:
            await story()
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(live())


def test_a_run_goes_from_accepted_to_launched_by_bells_alone() -> None:
    yard = Yard()

    async def story() -> None:
        await asyncio.to_thread(yard.join)
        runs = await asyncio.to_thread(lambda: yard.submit(parameters=({},) * 3))
        await until(lambda: bool(yard.fakes.executor.of(StageRequest)), "a stage order")
        await asyncio.to_thread(stage.staged, yard.world, "n1", yard.run(runs[0]).spec_id)
        await until(lambda: len(yard.fakes.executor.of(LaunchRequest)) == 2, "two launches")
        await asyncio.to_thread(supervise.began, yard.world, "n1", runs[0], 1, yard.now)
        await asyncio.to_thread(yard.ends, runs[0])
        await until(lambda: len(yard.fakes.executor.of(LaunchRequest)) == 3, "the third")

    turning(yard, story)


def test_runs_that_were_submitted_before_a_machine_came() -> None:
    yard = Yard()
    yard.join()
    run = yard.submit()[0]
    yard.restart()

    async def story() -> None:
        await asyncio.to_thread(yard.join)
        await until(lambda: bool(yard.fakes.executor.of(StageRequest)), "a stage order")

    turning(yard, story)
    assert yard.run(run).state_name is StateName.waiting


def test_a_store_that_hangs_or_breaks_keeps_nobody_else_waiting() -> None:
    yard = Yard()
    yard.join()
    bad = [yard.submit(manifest(data="data", kind="s3"), force=True)[0] for _ in range(5)]
    good = yard.submit()[0]
    yard.fakes.objects.fails = RuntimeError("a mistake of the adapter")

    async def story() -> None:
        await asyncio.to_thread(yard.join)
        await until(lambda: bool(yard.fakes.executor.of(StageRequest)), "the good one's stage order")
        await until(lambda: all(yard.world.ready.due_ms(yard.run(run).spec_id) for run in bad), "all were tried")

    turning(yard, story)
    assert [order.spec_id for order in yard.fakes.executor.of(StageRequest)] == [yard.run(good).spec_id]


def test_what_is_moved_to_the_front_is_fetched_before_what_was_there_first() -> None:
    yard = Yard(rules=Rules(stage_window=1))
    yard.join()
    first, second, third = (yard.submit()[0] for _ in range(3))

    def ordered() -> list[int]:
        return [order.spec_id for order in yard.fakes.executor.of(StageRequest)]

    async def story() -> None:
        await asyncio.to_thread(yard.join)
        await until(lambda: len(ordered()) == 1, "the first stage order")
        account = yard.run(third).account_id
        await asyncio.to_thread(control.move, yard.world, account, third, 1)
        await until(lambda: len(ordered()) == 2, "a second one, with no other event")
        await asyncio.to_thread(stage.staged, yard.world, "n1", yard.run(third).spec_id)
        await asyncio.to_thread(stage.staged, yard.world, "n1", yard.run(first).spec_id)
        await until(lambda: len(ordered()) == 3, "the last one")

    turning(yard, story)
    assert ordered() == [yard.run(run).spec_id for run in (first, third, second)]


def test_an_unreachable_store_is_asked_again_when_its_pause_is_over() -> None:
    yard = Yard()
    yard.join()
    yard.fakes.objects.says["data"] = Checked(Verdict.unreachable, "Nobody answers.")
    run = yard.submit(manifest(data="data", kind="s3"), force=True)[0]

    async def story() -> None:
        await asyncio.to_thread(yard.join)
        await until(lambda: yard.world.ready.due_ms(yard.run(run).spec_id) > yard.now, "a first try")
        yard.fakes.objects.says.clear()
        yard.fakes.objects.put("acme", "data", a=b"1")
        yard.fakes.clock.pass_by(1000)
        await until(lambda: bool(yard.fakes.executor.of(StageRequest)), "a second try")

    turning(yard, story)


def test_a_machine_that_stays_away_is_fenced_by_the_watch() -> None:
    yard = Yard(rules=Rules(node_lost_after_ms=50))
    yard.join()
    run = yard.running()

    async def story() -> None:
        await asyncio.to_thread(nodes.disconnected, yard.world, "n1", lambda: False)
        assert isinstance(yard.run(run).state, Running)
        yard.fakes.clock.pass_by(50)
        await until(lambda: yard.run(run).state_name is StateName.waiting, "the attempt is given up")

    turning(yard, story)
    assert yard.run(run).ready_on is None


def test_results_of_a_machine_that_never_comes_back_are_given_up_by_the_watch() -> None:
    yard = Yard(rules=Rules(node_lost_after_ms=50, results_wait_ms=1_000))
    yard.join()
    run = yard.storing()

    async def story() -> None:
        await asyncio.to_thread(nodes.disconnected, yard.world, "n1", lambda: False)
        yard.fakes.clock.pass_by(1_000)
        await until(lambda: yard.run(run).state_name is StateName.failed, "its results are lost")

    turning(yard, story)


class MoodyStore(MemoryStore):
    """A store that fails once."""

    failures = 1

    def specs_to_stage(self, limit: int) -> Sequence[int]:
        """Fails the first time."""
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the disk is full")
        return super().specs_to_stage(limit)


def test_a_station_that_fails_is_turned_again() -> None:
    store = MoodyStore()
    yard = Yard(Fakes(store=store))

    async def story() -> None:
        await asyncio.to_thread(yard.join)
        await asyncio.to_thread(yard.submit)
        await until(lambda: bool(yard.fakes.executor.of(StageRequest)), "a stage order")

    turning(yard, story)
    assert store.failures == 0
