"""What the server remembers of grants ahead, without a record: until when they may begin, and which it has called back.

A grant is a lease: it ends at a moment of its machine's own clock (milliseconds since that was started), however long
the order was on its way. Machines say what their clock shows with all that they tell.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

from runyard.core.scheduling.ahead import HOLD_MS, LEASE_MS

FRESH_MS: Final = 10_000
"""A better word on how far two clocks are apart than the last one is believed for so long: clocks run differently."""


class Ahead:
    """Grants ahead as one server sees them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clocks: dict[str, tuple[int, int]] = {}
        """How far this server's clock is ahead of each machine's at most, and when that was seen."""
        self._ends_ms: dict[str, int] = {}
        """When the last grant of each account has run out."""
        self._begun_ms: int | None = None
        self._asked: dict[str, set[str]] = {}
        """The runs that each machine was asked to give back."""
        self._planned_ms = 0

    def tells_time(self, node_id: str, now: int, clock_ms: int) -> None:
        """A machine's clock showed this a moment before ``now``; 0: it did not say."""
        if clock_ms <= 0:
            return
        apart = now - clock_ms
        with self._lock:
            before = self._clocks.get(node_id)
            if before is None or apart <= before[0] or not before[1] <= now < before[1] + FRESH_MS:
                self._clocks[node_id] = apart, now

    def said_hello(self, node_id: str, now: int, clock_ms: int) -> None:
        """A machine begins anew: what its clock showed before says nothing, and it is asked again for what it gives
        back."""
        with self._lock:
            self._clocks.pop(node_id, None)
            self._asked.pop(node_id, None)
        self.tells_time(node_id, now, clock_ms)

    def plans(self, now: int) -> None:
        """A plan is made by what is so at this moment: what it grants runs from here."""
        with self._lock:
            self._planned_ms = now
            if self._begun_ms is None:
                self._begun_ms = now

    def until_ms(self, node_id: str) -> int | None:
        """When a grant of the plan that is carried out runs out, by its machine's clock; None where that is unknown."""
        with self._lock:
            apart = self._clocks.get(node_id)
            return None if apart is None else max(1, self._planned_ms + HOLD_MS - apart[0])

    def gives(self, accounts: Iterable[str]) -> None:
        """Runs of these accounts are about to be granted."""
        with self._lock:
            for account_id in accounts:
                self._ends_ms[account_id] = self._planned_ms + LEASE_MS

    def ends_ms(self, account_id: str, now: int) -> int:
        """When nothing of an account that was granted up to now may begin any more. What a server before this one has
        granted counts from when this one began to plan."""
        with self._lock:
            begun = now if self._begun_ms is None else self._begun_ms
            return max(begun + LEASE_MS, self._ends_ms.get(account_id, 0))

    def asks_back(self, node_id: str, run_id: str) -> bool:
        """Whether a machine is to be asked to give a run back: once, since its hello, for each grant."""
        with self._lock:
            asked = self._asked.setdefault(node_id, set())
            if run_id in asked:
                return False
            asked.add(run_id)
            return True

    def answered(self, node_id: str, run_ids: Iterable[str]) -> None:
        """A machine tells of these runs: should it hold another grant of one, it is asked again."""
        asked = self._asked.get(node_id)
        if asked:
            with self._lock:
                asked.difference_update(run_ids)
