"""Crews: jobs in order, one at a time while they are short, and none held up by one that takes long."""

import asyncio
import threading
import time
from concurrent.futures import Future

import pytest

from runyard.shim.crews import Crew, Hands

LONG_S = 30.0


class Watched:
    """Jobs that note how many of them are at work."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = 0
        self.most = 0
        self.done: list[int] = []
        self.over = threading.Event()

    def work(self, number: int, last: int) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.0002)  # as a system call that gives the interpreter away
        with self.lock:
            self.now -= 1
            self.done.append(number)
        if number == last:
            self.over.set()


@pytest.mark.parametrize(("at_once", "most"), [(1, 1), (2, 2)])
def test_short_jobs_are_done_in_order_by_as_many_threads_as_are_at_once(at_once: int, most: int) -> None:
    seen, crew = Watched(), Crew("short", 4, at_once, LONG_S)
    for number in range(200):
        crew.put(lambda number=number: seen.work(number, 199))
    assert seen.over.wait(LONG_S)
    crew.wait()
    assert sorted(seen.done) == list(range(200))
    assert seen.done == list(range(200)) or at_once > 1
    assert seen.most == most


def test_a_job_that_takes_long_holds_up_nobody() -> None:
    crew, leave, others = Crew("long", 3, 1, 0.01), threading.Event(), threading.Semaphore(0)
    crew.put(lambda: leave.wait(LONG_S))
    for _ in range(50):
        crew.put(others.release)
    assert all(others.acquire(timeout=LONG_S) for _ in range(50))
    crew.put(lambda: leave.wait(LONG_S))
    crew.put(others.release)
    assert others.acquire(timeout=LONG_S), "nor two of them"
    leave.set()
    crew.wait()


def test_no_more_jobs_are_at_work_than_there_are_threads() -> None:
    crew, leave, begun = Crew("full", 2, 1, 0.001), threading.Event(), threading.Semaphore(0)

    def work() -> None:
        begun.release()
        leave.wait(LONG_S)

    for _ in range(3):
        crew.put(work)
    assert all(begun.acquire(timeout=LONG_S) for _ in range(2))
    assert not begun.acquire(timeout=0.1)
    leave.set()
    assert begun.acquire(timeout=LONG_S)
    crew.wait()


def test_jobs_that_put_jobs_and_many_who_put() -> None:
    crew, left = Crew("busy", 4, 2, 0.001), threading.Semaphore(0)

    def put() -> None:
        for _ in range(200):
            crew.put(lambda: crew.put(left.release))
            time.sleep(0)

    threads = [threading.Thread(target=put) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert all(left.acquire(timeout=LONG_S) for _ in range(1000))
    for thread in threads:
        thread.join()


def test_hands_give_results_and_errors_and_end_when_nothing_is_left() -> None:
    hands, leave = Hands("hands", 4, 1, 0.001), threading.Event()
    assert hands.submit(divmod, 7, 2).result(LONG_S) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        hands.submit(divmod, 7, 0).result(LONG_S)
    last: Future[bool] = hands.submit(leave.wait, LONG_S)
    threading.Timer(0.05, leave.set).start()
    hands.shutdown()
    assert last.result(0)
    with pytest.raises(RuntimeError, match="shutdown"):
        hands.submit(print)


def test_a_loop_has_its_jobs_done_by_hands() -> None:
    async def ask() -> list[int]:
        asyncio.get_running_loop().set_default_executor(Hands("loop", 8, 2, 0.001))
        return await asyncio.gather(*(asyncio.to_thread(pow, number, 2) for number in range(20)))

    assert asyncio.run(ask()) == [number**2 for number in range(20)]
