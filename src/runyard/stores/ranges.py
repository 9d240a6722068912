"""Several ranges of one object at once, in threads that all objects of a store share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait


class Ranges:
    """A pool of threads for ranges of ``chunk`` bytes. The caller works too, so no object waits for another's end."""

    def __init__(self, chunk: int, helpers: int = 4) -> None:
        self._chunk = chunk
        self._helpers = helpers
        self._pool = ThreadPoolExecutor(helpers, thread_name_prefix="ranges")

    def each(self, start: int, end: int, work: Callable[[tuple[int, int]], object], chunk: int = 0) -> None:
        """Call ``work`` with every (start, end) between the two offsets, several at once; ``chunk``: bytes of each,
        where they are not to be those of the pool.

        The first failure ends the others after the range they are at, and is raised.
        """
        chunk = chunk or self._chunk
        drain = _Drain(start, end, chunk, work)
        others: list[Future[None]] = [
            self._pool.submit(drain) for _ in range(min(self._helpers, (end - start - 1) // chunk))
        ]
        try:
            drain()
        finally:
            wait([other for other in others if not other.cancel()])
        drain.check()

    def close(self) -> None:
        """End the threads once they are idle."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Drain:
    """Takes ranges until there are none or one failed; called by several threads at once."""

    def __init__(self, start: int, end: int, chunk: int, work: Callable[[tuple[int, int]], object]) -> None:
        self._lock = threading.Lock()
        self._next, self._end, self._chunk = start, end, chunk
        self._work = work
        self._failure: BaseException | None = None

    def __call__(self) -> None:
        while (span := self._take()) is not None:
            try:
                self._work(span)
            except BaseException as error:  # also a cancellation from a callback: it is raised again by check()
                with self._lock:
                    self._failure = self._failure or error

    def _take(self) -> tuple[int, int] | None:
        with self._lock:
            start = self._next
            if self._failure is not None or start >= self._end:
                return None
            self._next = min(start + self._chunk, self._end)
            return start, self._next

    def check(self) -> None:
        """Raise what failed first."""
        if self._failure is not None:
            raise self._failure
