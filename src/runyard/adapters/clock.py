"""The machine's clock and its source of chance."""

from __future__ import annotations

import contextlib
import json
import math
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

DRAWN: Final = 0.0005
"""So much the clock is fast or slow at most while it is drawn to the wall clock (500 ppm, as with adjtime)."""
NOTED_MS: Final = 10
"""What was noted is off by no more."""
AGAIN_MS: Final = 1000
"""After this what could not be noted is tried again."""


def boot_ms() -> int:
    """Since the machine was started, its sleep included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def wall_ms() -> int:
    """What the wall clock shows, whoever has set it."""
    return time.time_ns() // 1_000_000


class MachineClock:
    """Wall time that never steps: set once, counted by the clock that runs on during sleep, and drawn to the wall
    clock by half a millisecond a second, as adjtime(3) does. So nobody is billed for an hour by which somebody has set
    the clock.

    ``floor_ms``: a time that it starts from at the earliest (that of the latest event), should the wall clock have
    been set back while the server was down. ``kept``: a file with what the wall clock was taken to be before; it holds
    as long as the machine has not been restarted. ``resume``: go on from there, since somebody's time is being counted.
    ``wall_ms``: the wall clock.
    """

    def __init__(
        self,
        floor_ms: int = 0,
        kept: Path | None = None,
        *,
        resume: bool = True,
        wall_ms: Callable[[], int] = wall_ms,
    ) -> None:
        self._lock = threading.Lock()
        self._wall_ms = wall_ms
        self._kept = kept
        boot = boot_ms()
        before = _read(kept) if resume else None
        offset = wall_ms() - boot if before is None else before
        self._offset_ms: float = max(offset, floor_ms - boot)
        self._noted_ms = math.inf
        self._try_at = 0
        self._seen = boot
        self._last = 0
        self._note()

    def now_ms(self) -> int:
        """Milliseconds since the epoch; follows the wall clock slowly, never backwards."""
        with self._lock:
            boot = boot_ms()
            most = (boot - self._seen) * DRAWN
            self._seen = boot
            self._offset_ms += min(max(self._wall_ms() - boot - self._offset_ms, -most), most)
            if abs(self._offset_ms - self._noted_ms) >= NOTED_MS:
                self._note()
            self._last = max(self._last, boot + round(self._offset_ms))
            return self._last

    def _note(self) -> None:
        """A disk that is full, e.g., is tried again: what the file tells may be of a clock that has been set since."""
        if self._kept is None or self._seen < self._try_at:
            return
        new = self._kept.with_suffix(".new")
        try:
            new.write_text(json.dumps({"boot": _boot_id(), "offset_ms": round(self._offset_ms)}), encoding="utf-8")
            new.replace(self._kept)
        except OSError:
            self._try_at = self._seen + AGAIN_MS
            return
        self._noted_ms = self._offset_ms


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _read(kept: Path | None) -> int | None:
    """What was noted since the machine was started; None where nothing was."""
    if kept is not None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            noted = json.loads(kept.read_text(encoding="utf-8"))
            return int(noted["offset_ms"]) if noted["boot"] == _boot_id() else None
    return None


class SystemEntropy:
    """The operating system's randomness."""

    def bits(self, count: int) -> int:
        """A random integer of ``count`` bits."""
        return secrets.randbits(count)
