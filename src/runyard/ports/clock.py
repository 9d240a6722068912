"""Time and chance, as the engine asks for them."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """A wall clock that never steps back within a process."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC; never less than it said before."""
        ...


class Entropy(Protocol):
    """A source of chance."""

    def bits(self, count: int) -> int:
        """A uniformly random integer of ``count`` bits."""
        ...
