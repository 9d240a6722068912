"""GPUs that machines keep back: memory only, since each machine tells of them again whenever it connects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ShutGpu:
    """A GPU that is given to no run for now: its slots, why in a sentence, and whether that is an error of its own."""

    slots: tuple[int, ...]
    sentence: str
    error: bool = False


class ShutGpus:
    """What each machine has told last."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[ShutGpu, ...]] = {}

    def told(self, node_id: str, shut: Sequence[ShutGpu]) -> bool:
        """All that a machine keeps back now; whether that is something new."""
        before, self._of[node_id] = self._of.get(node_id, ()), tuple(shut)
        return before != tuple(shut)

    def of(self, node_id: str) -> tuple[ShutGpu, ...]:
        """What a machine keeps back."""
        return self._of.get(node_id, ())
