"""The store of record, as far as very many runs are ended at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Canceling(Protocol):
    """Ending what nothing has begun of."""

    def cancel_waiting(self, account_id: str, run_ids: Sequence[str], now_ms: int) -> Sequence[str]:
        """Cancel those of these runs of an account that wait, have had no attempt and are granted to no node, as
        ``lifecycle.stop`` does, all in one transaction; returns their ids, the oldest first. The others stay as they
        are."""
        ...
