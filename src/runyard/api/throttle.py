"""Slowing down those who guess: a wait after each failure, longer each time, in a memory of a fixed size."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

FREE_TRIES: Final = 5
_FIRST_MS: Final = 1000
_LONGEST_MS: Final = 15 * 60_000
_KEPT: Final = 10_000


class Throttle:
    """Failures in a row of each key (a member, an address). After ``FREE_TRIES`` of them the key waits a second, then
    two, then four, up to a quarter of an hour; what has been quiet for twice that long is forgotten.

    At most ``kept`` keys are in memory: the one that was quiet the longest makes room.
    """

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._failures: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def wait_ms(self, keys: tuple[str, ...], now_ms: int) -> int:
        """How long these have to wait before they may try, 0 when they may now."""
        return max((self._open_ms(key, now_ms) - now_ms for key in keys), default=0)

    def _open_ms(self, key: str, now_ms: int) -> int:
        count, last = self._failures.get(key, (0, now_ms))
        if count < FREE_TRIES or now_ms - last > 2 * _LONGEST_MS:
            return now_ms
        return max(now_ms, last + min(_LONGEST_MS, _FIRST_MS << min(count - FREE_TRIES, 20)))

    def failed(self, keys: tuple[str, ...], now_ms: int) -> None:
        """A try has begun; it counts as a failure until it is told to be none, so that guesses at once count too."""
        for key in keys:
            count, last = self._failures.pop(key, (0, now_ms))
            self._failures[key] = (1 if now_ms - last > 2 * _LONGEST_MS else count + 1, now_ms)
        while len(self._failures) > self._kept:
            self._failures.popitem(last=False)

    def succeeded(self, keys: tuple[str, ...]) -> None:
        """It was no failure."""
        for key in keys:
            self._failures.pop(key, None)


@dataclass(slots=True)
class Gate:
    """One password is hashed at a time, few wait for that, and who guesses waits longer each time."""

    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    throttle: Throttle = field(default_factory=Throttle)
    waiting: int = 0
