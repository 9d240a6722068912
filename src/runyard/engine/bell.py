"""Waking those who wait, from any thread: stations and streams listen to topics, whoever changed something rings."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final

DISPATCH: Final = "dispatch"
REFILL: Final = "refill"
"""A machine has begun what it was granted, in room that it had: nothing is free, and soon it is to be granted more."""
STAGE: Final = "stage"
EVENTS: Final = "events"
NODES: Final = "nodes"
AFTER: Final = "after"
ROOM: Final = "room"


def log_topic(run_id: str) -> str:
    """The topic of a run's logs."""
    return f"log/{run_id}"


def stage_topic(spec_id: int) -> str:
    """The topic of how the staging of a spec gets on."""
    return f"stage:{spec_id}"


def metric_topic(run_id: str) -> str:
    """The topic of a run's metrics."""
    return f"metrics/{run_id}"


class Ear:
    """One listener's memory of having been rung for since it last asked."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Remember; to be called in the loop's thread."""
        self._event.set()

    def forget(self) -> None:
        """What was rung for up to now is about to be looked at."""
        self._event.clear()

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until rung (True) or until the time is over (False); forgets the ring."""
        try:
            # Not wait_for: before Python 3.12 it forgets a cancellation that comes together with the ring.
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Bell:
    """Topics and their listeners. :meth:`ring` works from any thread; listening belongs to the loop's own."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ears: defaultdict[str, set[Ear]] = defaultdict(set)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Name the loop that listeners live in. Rings before that are nobody's loss: nobody listens yet."""
        self._loop = loop

    def ring(self, *topics: str) -> None:
        """Wake every listener of the topics."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop was closed meanwhile: nobody listens any more
                loop.call_soon_threadsafe(self._ring, topics)

    def _ring(self, topics: tuple[str, ...]) -> None:
        for topic in topics:
            for ear in self._ears.get(topic, ()):
                ear.ring()

    @contextmanager
    def listen(self, *topics: str) -> Generator[Ear]:
        """Listen to topics for as long as the context lasts."""
        ear = Ear()
        for topic in topics:
            self._ears[topic].add(ear)
        try:
            yield ear
        finally:
            for topic in topics:
                self._ears[topic].discard(ear)
                if not self._ears[topic]:
                    del self._ears[topic]
