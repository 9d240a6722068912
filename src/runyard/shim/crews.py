"""Threads that take jobs a few at a time while that is quick, and more of them where jobs take long.

Threads of one interpreter that all have something to do give its lock to and fro at each system call, which costs as
much as the short jobs that they do. So a job that comes while enough threads are at work waits for one of these, but
not for long.
"""

import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

PATIENCE_S = 0.02
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    T = TypeVar("T")


class Crew:
    """Up to ``most`` threads, started as work comes, that take jobs in order: up to ``at_once`` of them as they come,
    more where the first job has waited for ``patience_s``."""

    def __init__(self, name: str, most: int, at_once: int = 1, patience_s: float = PATIENCE_S) -> None:
        self._name = name
        self._most = most
        self._at_once = at_once
        self._patience_s = patience_s
        self._jobs: deque[tuple[float, Callable[[], object]]] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._threads = 0
        self._busy = 0
        self._is_minded = False
        """Whether a thread that has nothing to do looks how long the first job waits."""

    def put(self, job: "Callable[[], object]") -> None:
        """Have a job done. It must not raise."""
        with self._changed:
            self._jobs.append((time.monotonic(), job))
            if self._busy < self._at_once or not self._is_minded:
                self._call_one()

    def wait(self) -> None:
        """Until nothing is left to do, where nobody puts anything any more."""
        with self._changed:
            while self._jobs or self._busy:
                self._changed.wait(self._patience_s)

    def _call_one(self) -> None:
        """Wake a thread that has nothing to do, or start one."""
        if self._busy < self._threads:
            self._changed.notify()
        elif self._threads < self._most:
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()

    def _work(self) -> None:
        with self._changed:
            while True:
                job = self._next()
                self._busy += 1
                if self._jobs and not self._is_minded:
                    self._call_one()
                self._changed.release()
                try:
                    job()
                finally:
                    self._changed.acquire()
                    self._busy -= 1

    def _next(self) -> "Callable[[], object]":
        """Wait for a job that is this thread's."""
        while True:
            left_s = None
            if self._jobs:
                left_s = self._jobs[0][0] + self._patience_s - time.monotonic()
                if self._busy < self._at_once or left_s <= 0:
                    return self._jobs.popleft()[1]
            if left_s is None or self._is_minded:
                self._changed.wait()
                continue
            self._is_minded = True
            try:
                self._changed.wait(left_s)
            finally:
                self._is_minded = False


class Hands(ThreadPoolExecutor):
    """A crew as an executor of futures, of the kind that asyncio demands."""

    def __init__(self, name: str, most: int, at_once: int, patience_s: float) -> None:
        super().__init__(most, name)
        self._crew = Crew(name, most, at_once, patience_s)
        self._is_over = False

    def submit(self, fn: "Callable[P, T]", /, *args: "P.args", **kwargs: "P.kwargs") -> "Future[T]":
        """As any executor's. Raises ``RuntimeError`` after the end."""
        if self._is_over:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self._crew.put(work)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more, and wait for what was taken."""
        self._is_over = True
        super().shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            self._crew.wait()
