"""What the server's time was at each moment of a campaign, by the difference that it notes.

A server that is started while nothing holds a slot begins with the wall clock, which has jumped, or at its latest
event, so one difference does not hold for a whole campaign.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from contextlib import suppress
from pathlib import Path

from bench.chaos.reality import boottime

EVERY_S = 0.1


class Hours:
    """Looks at the noted difference ten times a second, from a thread of its own, until it is told to stop."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._at: list[float] = []
        self._offsets: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        self._look()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def note(self, at_ms: float, offset_ms: int) -> None:
        """The difference from this moment on, in ms of the clock that nobody sets."""
        if not self._offsets or self._offsets[-1] != offset_ms:
            self._at.append(at_ms)
            self._offsets.append(offset_ms)

    def time_of(self, at_ms: int) -> int:
        """What the server's time was at a moment of the clock that nobody sets."""
        return at_ms + self._offsets[max(0, bisect_right(self._at, at_ms) - 1)]

    def _look(self) -> None:
        with suppress(OSError, ValueError):
            self.note(boottime() * 1000, int(json.loads(self._file.read_text())["offset_ms"]))

    def _work(self) -> None:
        while not self._stop.wait(EVERY_S):
            self._look()
