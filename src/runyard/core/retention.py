"""How long what runs leave behind is kept: a policy of ages, and what of an ended run may go now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

KEEP_TAG: Final = "keep"
"""A run with this tag keeps all that it has, whatever the policy."""
FOR_EVER: Final = 0
"""As an age: it never goes by itself."""


class Part(StrEnum):
    """What is kept of a run: results in the embedded store, logs, metrics, and the record of the run itself (with the
    logs and metrics that it leads to; never its bill and its events)."""

    results = "results"
    logs = "logs"
    metrics = "metrics"
    records = "records"


Kept: TypeAlias = Mapping[Part, int]
"""For how many milliseconds after its end each part of a run is kept; absent: as the installation's default says."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A final run, as far as a policy goes. ``ended_ms``: when its last byte was stored. ``pinned``: it has the tag
    ``keep``. ``gone``: parts that went before."""

    seq: int
    run_id: str
    account_id: str
    spec_id: int
    ended_ms: int
    pinned: bool = False
    gone: frozenset[Part] = frozenset()


@dataclass(frozen=True, slots=True)
class Fate:
    """What goes of a run now, and when the next part is due (None: never)."""

    goes: frozenset[Part] = frozenset()
    due_ms: int | None = None


def policy(default: Kept, own: Kept) -> Kept:
    """What holds for an account: its own words, else the installation's."""
    return {part: own.get(part, default.get(part, FOR_EVER)) for part in Part}


def fate(run: Ended, kept: Kept, now_ms: int, *, results_here: bool, needed: bool) -> Fate:
    """Decide about a final run. ``results_here``: its results are in the embedded store (elsewhere they are never
    touched); ``needed``: a run that is not final waits for it or starts from it, so all of it stays for now."""
    if run.pinned:
        return Fate()
    parts = [part for part in Part if part not in run.gone and (part is not Part.results or results_here)]
    due = {part: run.ended_ms + kept[part] for part in parts if kept.get(part, FOR_EVER)}
    goes = frozenset(part for part, at in due.items() if at <= now_ms)
    if goes and needed:
        return Fate(due_ms=now_ms)
    if Part.records in goes:
        goes |= {Part.logs, Part.metrics} - run.gone
    later = [at for part, at in due.items() if part not in goes]
    return Fate(goes, None if Part.records in goes else min(later, default=None))


def swept_sentence(parts: frozenset[Part], kept: Kept) -> str:
    """What a run's page says of parts that went."""
    named = [f"{part.value} (kept for {days(kept[part])})" for part in Part if part in parts and kept.get(part)]
    return f"By the account's retention these went: {', '.join(named)}. The bill and the events stay."


def days(age_ms: int) -> str:
    """An age for people."""
    return f"{age_ms / 86_400_000:.3g} days"


def is_short(free: int, total: int, reserve: int) -> bool:
    """Whether a disk has less room left than it should: the reserve, or a twentieth of a small disk. Bytes."""
    return free < min(reserve, total // 20)
