"""For how long what nobody waits for is kept back, so that more goes with it: a request costs several times what is in
it, here and at the server."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

COMPANY_S: Final = 0.05
"""So long, where others went a moment ago and programs run here whose words may come meanwhile."""
LONGEST_S: Final = 0.15
"""So long at most, where programs end one after the other here: until there is something of ``SEVERAL``, about."""
SEVERAL: Final = 8
MOMENT_S: Final = 0.2
"""What a moment ago is."""


def always() -> bool:
    """Programs may be running: nobody can tell."""
    return True


class Company:
    """Knows whether more will come soon, and who waits for it."""

    def __init__(self, is_busy: Callable[[], bool] = always) -> None:
        """``is_busy``: whether programs run here, of which there will be more to tell."""
        self.is_busy = is_busy
        self._ends: deque[float] = deque(maxlen=SEVERAL)
        self._quiet = threading.Condition()
        self._wakes: list[Callable[[], None]] = []

    def when_quiet(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever the last program here has ended."""
        self._wakes.append(wake)

    def ended(self, more: bool) -> None:
        """A program has ended; ``more``: others run."""
        self._ends.append(time.monotonic())
        if not more:
            with self._quiet:
                self._quiet.notify_all()
            for wake in self._wakes:
                wake()

    def patience_s(self) -> float:
        """How long to wait for company now: as long as it took for the last few programs to end, where that was not
        long; 0 where nothing runs."""
        if not self.is_busy():
            return 0.0
        ends = tuple(self._ends)
        took = time.monotonic() - ends[0] if len(ends) == SEVERAL else 2 * LONGEST_S
        return COMPANY_S if took >= 2 * LONGEST_S else min(LONGEST_S, max(COMPANY_S, took))

    def wait(self, seconds: float) -> None:
        """Wait so long, or until nothing runs any more."""
        with self._quiet:
            self._quiet.wait_for(lambda: not self.is_busy(), seconds)
