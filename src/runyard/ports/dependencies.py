"""The store of record, as far as runs wait for other runs (``after``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Dependencies(Protocol):
    """Who waits for whom. Rows are written by ``Store.submit`` and go with the run that waits."""

    def dependencies(self, run_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """For each of these runs that was to wait for others, those others, in the order of the manifest."""
        ...

    def dependents(self, run_ids: Sequence[str], limit: int) -> Sequence[str]:
        """Waiting runs that are blocked and wait for one of these, each once, the oldest first."""
        ...

    def blocked(self, after_seq: int, limit: int) -> Sequence[tuple[int, str]]:
        """(seq, id) of waiting runs that are blocked, ascending, beyond ``after_seq``: for a start's look at all.
        The cost grows with the blocked runs alone."""
        ...
