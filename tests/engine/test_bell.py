"""Waking those who wait, from any thread; no ring is lost."""

import asyncio
from threading import Thread

from runyard.engine.bell import Bell


def ring_from_threads(bell: Bell, topic: str, times: int) -> list[Thread]:
    threads = [Thread(target=bell.ring, args=(topic,)) for _ in range(times)]
    for thread in threads:
        thread.start()
    return threads


def test_a_ring_from_another_thread_wakes_its_listeners_alone() -> None:
    async def listen() -> tuple[bool, bool, bool]:
        bell = Bell()
        bell.attach(asyncio.get_running_loop())
        with bell.listen("a", "b") as both, bell.listen("b") as second, bell.listen("c") as third:
            ring_from_threads(bell, "b", 1)
            return await both.wait(5), await second.wait(5), await third.wait(0.01)

    assert asyncio.run(listen()) == (True, True, False)


def test_rings_before_somebody_waits_are_remembered_once() -> None:
    async def listen() -> list[bool]:
        bell = Bell()
        bell.attach(asyncio.get_running_loop())
        with bell.listen("a") as ear:
            for thread in ring_from_threads(bell, "a", 8):
                await asyncio.to_thread(thread.join)
            return [await ear.wait(5), await ear.wait(0.01)]

    assert asyncio.run(listen()) == [True, False]


def test_whoever_listens_no_longer_is_forgotten() -> None:
    async def listen() -> int:
        bell = Bell()
        bell.attach(asyncio.get_running_loop())
        for _ in range(3):
            with bell.listen("a"):
                pass
        return len(bell._ears)

    assert asyncio.run(listen()) == 0


def test_who_is_cancelled_at_the_moment_of_a_ring_ends() -> None:
    """A station that lost its cancellation to a ring would turn for ever."""

    async def story() -> bool:
        bell = Bell()
        bell.attach(asyncio.get_running_loop())
        with bell.listen("a") as ear:
            waiting = asyncio.create_task(ear.wait(10))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            ear.ring()
            waiting.cancel()
            await asyncio.wait([waiting], timeout=10)
            return waiting.cancelled()

    assert asyncio.run(story())


def test_rings_without_a_loop_and_after_its_end_are_nobodys_loss() -> None:
    bell = Bell()
    bell.ring("a")

    async def attach() -> None:
        bell.attach(asyncio.get_running_loop())

    asyncio.run(attach())
    bell.ring("a")


def test_a_thousand_changes_are_all_seen() -> None:
    """The pattern of every station: look, then wait. What came in between must wake it."""
    total = 1000

    async def follow() -> int:
        bell, done, seen = Bell(), list[int](), 0
        bell.attach(asyncio.get_running_loop())

        def work() -> None:
            for number in range(total):
                done.append(number)
                bell.ring("a")

        with bell.listen("a") as ear:
            thread = Thread(target=work)
            thread.start()
            while seen < total:
                seen = len(done)
                if seen < total:
                    assert await ear.wait(10), "a ring was lost"
            thread.join()
        return seen

    assert asyncio.run(follow()) == total
