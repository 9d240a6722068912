"""Places in the queue: 64-bit ranks with room between, so that a run is moved by changing that run alone."""

from __future__ import annotations

from typing import Final

RANK_STEP: Final = 2**20
"""A new run's rank is this times its sequence number: twenty moves fit between two neighbours, at the least."""


def between(lower: int | None, upper: int) -> int | None:
    """A rank between two others (``lower`` None: nothing stands before), None when there is no room."""
    if lower is None:
        return upper - RANK_STEP
    return (lower + upper) // 2 if upper - lower >= 2 else None


def spread(floor: int | None, ceiling: int, count: int) -> tuple[int, ...] | None:
    """``count`` ascending ranks between two others, evenly, None when that leaves less than 2**10 between any two."""
    if floor is None:
        return tuple(ceiling - RANK_STEP * (count - i) for i in range(count))
    gap = (ceiling - floor) // (count + 1)
    return tuple(floor + gap * (i + 1) for i in range(count)) if gap >= 2**10 else None
