"""What a plan is made of: starts, reasons to wait, attempts to stop, room that is kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import attrgetter
from typing import Final

from runyard.core.scheduling.snapshot import Balance, Head, Promise

_RUN_ID: Final[Callable[[Head], str]] = attrgetter("run_id")


class Wait(StrEnum):
    """Why a ready run does not start now."""

    quota = "quota"
    capacity = "capacity"
    paused = "paused"
    backoff = "backoff"
    node_closed = "node_closed"
    behind = "behind"
    after = "after"
    share = "share"
    budget = "budget"
    window = "window"


No = tuple[Wait, str]
"""A reason to wait, and its sentence."""


class Told(Mapping[str, No]):
    """What each head was told, by run id, in the order in which it was.

    A plan tells whole stretches of a class the same, and who reads it asks for a few heads or for none: they are looked
    up one by one when somebody asks for the first time.
    """

    __slots__ = ("_by_id", "_stretches")

    def __init__(self) -> None:
        self._stretches: list[tuple[Sequence[Head], int, int, No]] = []
        self._by_id: dict[str, No] = {}

    def tell(self, heads: Sequence[Head], begin: int, end: int, no: No) -> None:
        """Heads from ``begin`` up to ``end`` wait for this."""
        self._stretches.append((heads, begin, end, no))

    def among(self, run_ids: Collection[str]) -> set[str]:
        """Those of some runs that were told something."""
        asked = frozenset(run_ids)
        return {each for ids, _ in self._parts() for each in asked.intersection(ids)} if asked else set()

    def __getitem__(self, run_id: str) -> No:
        return self._known()[run_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __len__(self) -> int:
        return sum(end - begin for _, begin, end, _ in self._stretches)

    def __repr__(self) -> str:
        return repr(self._known())

    def _known(self) -> dict[str, No]:
        if len(self._by_id) != len(self):
            for ids, no in self._parts():
                self._by_id.update(dict.fromkeys(ids, no))
        return self._by_id

    def _parts(self) -> Iterator[tuple[Iterator[str], No]]:
        return ((map(_RUN_ID, heads[begin:end]), no) for heads, begin, end, no in self._stretches)


@dataclass(frozen=True, slots=True)
class Start:
    """Start ``run_id`` on a node in these GPU slots (none for a run without GPUs)."""

    run_id: str
    class_id: int
    node_id: str
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Preempt:
    """Stop this attempt, so that ``for_run_id`` can start; ``sentence`` says on whose behalf and why."""

    run_id: str
    attempt: int
    for_run_id: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room that is kept for a run: it starts at ``at_ms`` at the latest, as far as limits tell (None: they do not)."""

    node_id: str
    at_ms: int | None


@dataclass(frozen=True, slots=True)
class Share:
    """Where an account stands once a plan is carried out, in GPUs (of a machine without any: in machines).

    ``due``: its part of ``capacity`` by weight among those that hold or want something; ``held``: what it has;
    ``short``: whether another account that wants more is below what is due to it.
    """

    due: float
    held: float
    capacity: float
    short: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. ``waits``: for each class that has a head left, why its first one waits; ``heads``: the same
    for each head, by run id.

    ``wake_at_ms``: the next time at which the plan changes by itself, None when only an event can change it.
    ``preempts``: attempts to stop; ``reservations``: by run id; ``shares``: by account. ``promises``: by run id,
    and ``balances``, by account, for the next plan to look at.
    """

    starts: tuple[Start, ...]
    waits: Mapping[int, No]
    wake_at_ms: int | None = None
    heads: Mapping[str, No] = field(default_factory=dict[str, No])
    preempts: tuple[Preempt, ...] = ()
    reservations: Mapping[str, Reservation] = field(default_factory=dict[str, Reservation])
    shares: Mapping[str, Share] = field(default_factory=dict[str, Share])
    promises: Mapping[str, Promise] = field(default_factory=dict[str, Promise])
    balances: Mapping[str, Balance] = field(default_factory=dict[str, Balance])
