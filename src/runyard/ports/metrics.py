"""Where points of metrics are kept: append-only streams of blocks, one a learner of an attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from runyard.core.metrics import Outline, Series, Window


@dataclass(frozen=True, slots=True)
class MetricKey:
    """One stream: a learner (from 1) of an attempt (from 1) of a run."""

    run_id: str
    attempt: int
    learner: int = 1


@dataclass(frozen=True, slots=True)
class Piece:
    """What was read of a stream: its series in the order in which they first appear, the sentences for the user in it,
    and the offset behind the last whole block."""

    series: tuple[Series, ...]
    notes: tuple[str, ...]
    after: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which series are wanted: those of a name, of a group, of a learner; None: whatever it is."""

    name: str | None = None
    group: str | None = None
    learner: int | None = None


ALL_SERIES: Final = Wanted()
"""Whatever there is."""


class MetricStore(Protocol):
    """Streams with exactly-once appends by offset arithmetic. What they hold is read by whole blocks."""

    def append(self, key: MetricKey, offset: int, chunk: bytes) -> int:
        """Write ``chunk`` at ``offset`` and return the stream's size after it.

        What is already there is skipped; a gap (``offset`` beyond the size) writes nothing. Either way the answer is
        the size, from which the sender goes on.
        """
        ...

    def size(self, key: MetricKey) -> int:
        """Bytes in a stream; 0 when there is none."""
        ...

    def streams(self, run_id: str) -> Sequence[MetricKey]:
        """The streams of a run, by attempt and learner."""
        ...

    def read(self, key: MetricKey, offset: int, limit: int, wanted: Wanted | None = None) -> Piece:
        """The points of the whole blocks from ``offset`` (where a block begins) on, about ``limit`` bytes of them and
        at least one block where there is one. Bytes that are no block are passed over."""
        ...

    def outlines(self, key: MetricKey, wanted: Wanted, window: Window, stretches: int) -> Sequence[Outline]:
        """What a chart of each series needs that is drawn as so many stretches: every point in the window where there
        are few for that; else the lowest and the highest finite of cells of which there are as many as stretches or
        more. Reads little of a long stream. Series come in the order in which they first appear."""
        ...

    def note(self, run_id: str, sentences: Sequence[str]) -> None:
        """Keep sentences for the run's user; one that is kept already changes nothing."""
        ...

    def notes(self, run_id: str) -> Sequence[str]:
        """The sentences that are kept, the oldest first."""
        ...

    def delete(self, run_id: str) -> None:
        """Remove all streams of a run."""
        ...
