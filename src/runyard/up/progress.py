"""Telling a person at a terminal how far something is, once in a while."""

from __future__ import annotations

import sys
import time
from typing import Final

_EVERY_S: Final = 0.5


class Progress:
    """Numbers of what is being done, on one line of a terminal; nothing where stderr is none."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._next = time.monotonic() + _EVERY_S
        self._said = False

    def tell(self, what: str, count: int) -> None:
        """So many of something are done."""
        if self._shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY_S
            self._said = True
            sys.stderr.write(f"\r\x1b[K{what}: {count:,}")
            sys.stderr.flush()

    def done(self) -> None:
        """Take the line away."""
        if self._said:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
