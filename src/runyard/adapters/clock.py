"""The machine's clock and its source of chance."""

from __future__ import annotations

import secrets
import threading
import time


class MachineClock:
    """Wall time that never steps back: anchored once, then counted by the clock that runs on during sleep.

    ``floor_ms``: a time that it starts from at the earliest (that of the latest event), should the wall clock have
    been set back while the server was down.
    """

    def __init__(self, floor_ms: int = 0) -> None:
        self._lock = threading.Lock()
        self._offset_ms = max(time.time_ns() // 1_000_000, floor_ms) - self._boot_ms()
        self._last = 0

    @staticmethod
    def _boot_ms() -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def now_ms(self) -> int:
        """Milliseconds since the epoch; follows the wall clock forwards, never backwards."""
        with self._lock:
            counted = self._boot_ms() + self._offset_ms
            wall = time.time_ns() // 1_000_000
            if wall > counted:
                self._offset_ms += wall - counted
                counted = wall
            self._last = max(self._last, counted)
            return self._last


class SystemEntropy:
    """The operating system's randomness."""

    def bits(self, count: int) -> int:
        """A random integer of ``count`` bits."""
        return secrets.randbits(count)
