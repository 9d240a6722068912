"""The same thing for many items at once, and patience with what cannot be reached."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from runyard.node.lanes import Crew
from runyard.node.link import Backoff

T = TypeVar("T")

WIDTH = 8
"""Transfers at once for one list: small objects are bound by round trips, large ones come in several ranges anyway."""


class _Shared(Generic[T]):
    def __init__(self, crew: Crew, items: Iterable[T], do: Callable[[T], None], width: int) -> None:
        self.crew = crew
        self.items = iter(items)
        self.do = do
        self.lock = threading.Lock()
        self.error: BaseException | None = None
        self.working = width
        self.done = threading.Event()

    def work(self) -> None:
        """One item, and then this again behind what else waits: a long list does not keep a short one waiting."""
        try:
            if self.error is None:
                with self.lock:
                    item = next(self.items)
                self.do(item)
                self.crew.put(self.work)
                return
        except StopIteration:
            pass
        except BaseException as error:
            self.error = self.error or error
        with self.lock:
            self.working -= 1
            if self.working == 0:
                self.done.set()


def for_each(crew: Crew, items: Iterable[T], do: Callable[[T], None], width: int = WIDTH) -> None:
    """Call ``do`` for every item, up to ``width`` at once, and wait. The first error stops the rest and is raised."""
    shared = _Shared(crew, items, do, width)
    for _ in range(width):
        crew.put(shared.work)
    shared.done.wait()
    if shared.error is not None:
        raise shared.error


class Patience:
    """Goes on while something cannot be reached, for so many seconds since it last could. Shared by threads."""

    def __init__(self, seconds: float, wait: Callable[[float], None] = time.sleep) -> None:
        self._seconds = seconds
        self._wait = wait
        self._lock = threading.Lock()
        self._failing_since: float | None = None
        self._backoff = Backoff(0.2, 5.0)

    def went_well(self) -> None:
        """It could be reached."""
        with self._lock:
            self._failing_since = None
            self._backoff.reset()

    def is_left(self) -> bool:
        """It could not be reached: wait a little and say whether to try again."""
        with self._lock:
            now = time.monotonic()
            self._failing_since = now if self._failing_since is None else self._failing_since
            if now - self._failing_since >= self._seconds:
                return False
            pause = self._backoff.pause_s()
        self._wait(pause)
        return True
