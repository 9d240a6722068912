"""A line on a terminal that is written over and over; on anything else, nothing."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from types import TracebackType

from runyard.cli.session import on_terminal
from runyard.cli.table import cell_width
from runyard.client.sizes import human_size

INTERVAL = 0.1
"""Seconds between two writings of the line."""


class Line:
    """The line. Cleared when its block is left, or before anything else is said."""

    def __init__(self) -> None:
        self._live = on_terminal()
        self._last = 0.0
        self._shown = False
        self._lock = threading.Lock()

    def show(self, text: str, *, at_once: bool = False) -> None:
        """Write ``text`` over what is there; too many in a row are left out."""
        with self._lock:
            if not self._live or (not at_once and time.monotonic() - self._last < INTERVAL):
                return
            self._last, self._shown = time.monotonic(), True
            width = shutil.get_terminal_size().columns - 1
            while cell_width(text) > width:
                text = text[:-1]
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def bytes_moved(self, verb: str) -> _Meter:
        """A function to tell of bytes moved, e.g. ``sent 12 MB of 40 MB``."""
        return _Meter(self, verb)

    def clear(self) -> None:
        """Take the line away."""
        with self._lock:
            if self._shown:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
                self._shown = False

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()


class _Meter:
    def __init__(self, line: Line, verb: str) -> None:
        self._line = line
        self._verb = verb
        self._begun = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        seconds = time.monotonic() - self._begun
        rate = f", {human_size(done / seconds)}/s" if seconds > 1 else ""
        percent = 100 if total == 0 else 100 * done // total
        self._line.show(f"{self._verb} {human_size(done)} of {human_size(total)} ({percent} %{rate})")
