"""What accounts are due, have used and may spend; machines that are being drained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from runyard.core.budget import NOTHING, Budget, Spent
from runyard.core.use import NEVER, Use


@dataclass(frozen=True, slots=True)
class AccountShare:
    """An account's part in the queue. ``weight``: of its due share, None where nobody has set it. ``window``: the hours
    in which its runs may start, as :func:`runyard.core.windows.parse` reads them. ``use``: what it has used, without
    the attempts that hold room now. ``budget`` and what was ``spent`` of it in the period, without those attempts."""

    weight: float | None = None
    window: str | None = None
    use: Use = NEVER
    budget: Budget | None = None
    spent: Spent = NOTHING


class Shares(Protocol):
    """Part of the store of record."""

    def shares(self, now_ms: int) -> Mapping[str, AccountShare]:
        """The part of each account that has used, was given or may spend something; the others have the defaults.
        Costs the same however much was used."""
        ...

    def set_weight(self, account_id: str, weight: float | None) -> bool:
        """Set an account's weight (None: the default); False when there is no such account."""
        ...

    def set_window(self, account_id: str, window: str | None) -> bool:
        """Set an account's start window (None: always); False when there is no such account."""
        ...

    def set_budget(self, account_id: str, budget: Budget | None) -> bool:
        """Set an account's budget (None: none); False when there is no such account. What was spent before counts."""
        ...

    def set_draining(self, node_id: str, since_ms: int | None) -> bool:
        """From now on nothing new starts on a machine, whatever it says hello with (None: it may again); False when
        there is no such machine."""
        ...
