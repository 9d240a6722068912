"""What every measure is given: how long it may take, whether peers are wanted, where it may write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.yard import Yard, yard


@dataclass(frozen=True, slots=True)
class Context:
    """One run of the bench. ``folder``: for temporary files; ``peers``: the peers that are to be measured, by name."""

    folder: Path
    quick: bool = False
    peers: tuple[str, ...] = ()
    say: Callable[[str], None] = field(default=print)

    def times(self, full: int, short: int) -> int:
        """How often: in full, or in the short form."""
        return short if self.quick else full

    @contextmanager
    def yard(self, slots: int, settings: Mapping[str, object] | None = None) -> Iterator[Yard]:
        """An installation of this measure's own, with so many pretended GPUs."""
        with yard(slots, settings or {}) as opened:
            yield opened
