"""What a node tells of runs, as the engine takes it: ``wire.facts`` in the terms of core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from runyard.core.idle import Quiet
from runyard.core.lifecycle import Exit
from runyard.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class Then:
    """The run that was granted ahead and has taken over the room of an attempt that ended, as this attempt."""

    run_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Declined:
    """A grant that was not begun, and will not be."""

    run_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Began:
    """The program runs since ``at_ms``, by the node's clock."""

    run_id: str
    attempt: int
    at_ms: int
    way: str = ""
    way_note: str = ""


@dataclass(frozen=True, slots=True)
class GpuError:
    """A GPU has reported a hardware error while an attempt is on it."""

    run_id: str
    attempt: int
    detail: str


@dataclass(frozen=True, slots=True)
class WentQuiet:
    """The program does nothing since ``since_ms``; ``kind`` None: it does something again."""

    run_id: str
    attempt: int
    kind: Quiet | None
    since_ms: int


@dataclass(frozen=True, slots=True)
class Exited:
    """The program is gone."""

    run_id: str
    attempt: int
    record: Exit
    then: Then | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """The attempt left no exit record."""

    run_id: str
    attempt: int
    reason: Reason
    detail: str
    then: Then | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """Everything is in the bucket."""

    run_id: str
    objects: int
    size: int


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """A try at storing failed; the node goes on trying. ``lost``: it has nothing to store any more."""

    run_id: str
    detail: str
    denied: bool
    lost: bool = False


Told: TypeAlias = Declined | Began | GpuError | WentQuiet | Exited | Lost | Stored | StoreFailed


def runs_in(told: Told) -> tuple[str, ...]:
    """The runs that a fact is about."""
    then = told.then if isinstance(told, Exited | Lost) else None
    return (told.run_id,) if then is None else (told.run_id, then.run_id)
