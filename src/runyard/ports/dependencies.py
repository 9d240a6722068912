"""The store of record, as far as runs wait for other runs (``after``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Dependencies(Protocol):
    """Who waits for whom. Rows are written by ``Store.submit`` and go with their run."""

    def dependencies(self, run_id: str) -> Sequence[str]:
        """The runs that a run was to wait for, in the order of the manifest."""
        ...

    def dependents(self, run_id: str, limit: int) -> Sequence[str]:
        """Waiting runs that are blocked and wait for that run, the oldest first."""
        ...

    def blocked(self, after_seq: int, limit: int) -> Sequence[tuple[int, str]]:
        """(seq, id) of waiting runs that are blocked, ascending, beyond ``after_seq``: for a start's look at all.
        The cost grows with the blocked runs alone."""
        ...
