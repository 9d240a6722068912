"""Work in threads: one thing at a time for each run, different runs beside each other, and things to do later."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Hashable

from runyard.node.home import say
from runyard.shim import crews

Job = Callable[[], object]


class Crew(crews.Crew):
    """Up to so many threads, started as work comes, that take jobs in order; ``at_once`` of them as they come, and more
    where jobs take long. A mistake in a job is told to the operator."""

    def __init__(self, name: str, most: int, at_once: int | None = None) -> None:
        super().__init__(name, most, most if at_once is None else at_once)

    def put(self, job: Job) -> None:
        """Have a job done."""
        super().put(lambda: do_safely(job))


def do_safely(job: Job) -> None:
    """Do a job; a mistake of ours is told to the operator and ends the job, not the thread."""
    try:
        job()
    except Exception:  # the threads of a node serve many runs: one must not take the others with it
        say("A mistake in the node itself:\n" + traceback.format_exc())


class Lanes:
    """Jobs by key: those of one key are done one after the other, in the order they came, each by the crew it names."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, deque[tuple[Crew, Job]]] = {}

    def put(self, key: Hashable, crew: Crew, job: Job) -> None:
        """Have a job done after those that the key has already."""
        with self._lock:
            lane = self._waiting.get(key)
            if lane is not None:
                lane.append((crew, job))
                return
            self._waiting[key] = deque()
        crew.put(lambda: self._do(key, job))

    def _do(self, key: Hashable, job: Job) -> None:
        do_safely(job)
        with self._lock:
            lane = self._waiting[key]
            if not lane:
                del self._waiting[key]
                return
            crew, following = lane.popleft()
        crew.put(lambda: self._do(key, following))


class Later:
    """Things to do after a while, in one thread: they must be short, or hand on to a crew."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Job]] = []
        self._numbers = itertools.count()
        threading.Thread(target=self._work, name="later", daemon=True).start()

    def put(self, delay_s: float, job: Job) -> None:
        """Do a job after some seconds."""
        with self._changed:
            item = (time.monotonic() + delay_s, next(self._numbers), job)
            heapq.heappush(self._due, item)
            if self._due[0] is item:
                self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._due or self._due[0][0] > time.monotonic():
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                job = heapq.heappop(self._due)[2]
            do_safely(job)
