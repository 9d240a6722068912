"""What somebody was just told is here, and so must not go for a while, though nothing that is recorded needs it yet."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

LEASE_S: Final = 600.0
"""From "you need not upload it again" to the submission: some seconds. A client that sleeps longer uploads again."""


class Leases:
    """Names with the time until which they are held, in memory. A server that has just started does not know what
    the one before has told, so for the length of a lease it takes everything as held that may be asked for twice."""

    def __init__(self, lease_s: float = LEASE_S, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._lease_s = lease_s
        self._monotonic = monotonic
        self._began = monotonic()
        self._until: OrderedDict[str, float] = OrderedDict()
        self._going: set[str] = set()
        self._changed = threading.Condition()

    def hold(self, *names: str) -> None:
        """Nothing of these goes from now on, for the length of a lease. What is just going is waited for: whoever
        looks afterwards finds it gone."""
        with self._changed:
            self._changed.wait_for(lambda: self._going.isdisjoint(names))
            now = self._monotonic()
            for name in names:
                self._until[name] = now + self._lease_s
                self._until.move_to_end(name)
            while self._until and next(iter(self._until.values())) <= now:
                self._until.popitem(last=False)

    def remembers(self) -> bool:
        """Whether all that was told within a lease was told by this server."""
        return self._monotonic() >= self._began + self._lease_s

    @contextmanager
    def letting_go(self, name: str) -> Generator[bool]:
        """Whether something may go; while the context lasts nobody gets a lease of it."""
        with self._changed:
            free = self._until.get(name, 0.0) <= self._monotonic() and name not in self._going
            if free:
                self._going.add(name)
        try:
            yield free
        finally:
            if free:
                with self._changed:
                    self._going.discard(name)
                    self._changed.notify_all()


def of_run(run_id: str) -> str:
    """The name of a run's lease."""
    return f"run/{run_id}"


def of_definition(sha256: str) -> str:
    """The name of a model definition's lease, whichever account asks."""
    return f"definition/{sha256}"
