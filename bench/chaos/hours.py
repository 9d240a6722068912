"""What the server's time was at each moment of a campaign, by the difference that it notes.

A server that is started while nothing holds a slot begins with the wall clock, which has jumped, or at its latest
event, so one difference does not hold for a whole campaign. Each holds from when the server wrote it down, by the
file's own time of change (which is the machine's, whatever the server's clock is made to show), and not from when it is
seen here: on a busy machine runs begin in between.
"""

from __future__ import annotations

import json
import os
import threading
import time
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
        self.look()
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

    def around(self, at_ms: int) -> str:
        """The differences next to a moment, for whoever asks why a bill is not as it should be."""
        at = bisect_right(self._at, at_ms)
        told = [
            f"{self._offsets[i]} from {round(self._at[i] - at_ms):+}"
            for i in range(max(0, at - 2), min(len(self._at), at + 2))
        ]
        return f"the server's clock was ahead by {', '.join(told)} ms"

    def look(self) -> None:
        """Note what the file tells now."""
        with suppress(OSError, ValueError), self._file.open() as file:
            offset_ms = int(json.loads(file.read())["offset_ms"])
            since_s = time.time() - os.fstat(file.fileno()).st_mtime
            self.note((boottime() - since_s) * 1000, offset_ms)

    def _work(self) -> None:
        while not self._stop.wait(EVERY_S):
            self.look()
