"""Say in sentences where a waiting run stands: what the same function that plans has decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from runyard.core.scheduling.decisions import Plan, Share, Wait

READINESS: Final[Mapping[Wait, str]] = MappingProxyType(
    {
        Wait.quota: "quota",
        Wait.capacity: "capacity",
        Wait.paused: "paused",
        Wait.backoff: "capacity",
        Wait.node_closed: "capacity",
        Wait.behind: "capacity",
        Wait.after: "after",
        Wait.share: "share",
        Wait.budget: "budget",
        Wait.window: "window",
    }
)
"""For each reason to wait, the word of the states table."""

_OF_ONE_RUN: Final = frozenset({Wait.backoff, Wait.node_closed, Wait.after, Wait.window})


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a waiting run stands: ``readiness`` is a word of the states table, ``sentence`` the reason for people."""

    readiness: str
    sentence: str


def standing(plan: Plan, class_id: int, run_id: str, *, ahead: int) -> Standing:
    """Explain a ready run. ``ahead``: how many waiting runs stand before it in the order of the queue.

    A run that is no head of its class waits for what the first of its class waits for, unless that is its alone.
    """
    if any(start.run_id == run_id for start in plan.starts):
        return Standing("capacity", "It starts now.")
    wait = plan.heads.get(run_id)
    if wait is None:
        wait = plan.waits.get(class_id)
        if wait is None or wait[0] in _OF_ONE_RUN:
            return Standing("capacity", _ahead(ahead) or "Its turn comes with the next look at the queue.")
    kind, text = wait
    return Standing(READINESS[kind], f"{text} {_ahead(ahead)}".strip())


def share_sentence(share: Share) -> str:
    """What is due to an account, what it has borrowed or lent, and whether what it borrowed may be taken back."""
    due, held, whole = (f"{amount:.4g}" for amount in (share.due, share.held, share.capacity))
    said = f"Of {whole} GPUs {due} are due to the account and it holds {held}"
    if share.held > share.due:
        borrowed = f"{share.held - share.due:.4g} borrowed"
        if share.short:
            return f"{said}: {borrowed}, and asked back by accounts that have less than is due to them."
        return f"{said}: {borrowed}, which it gives back as soon as others want what is due to them."
    if share.held < share.due:
        return f"{said}: {share.due - share.held:.4g} lent to others, and its next runs go first."
    return f"{said}."


def next_there(node: str) -> str:
    """The sentence about a run that was granted ahead to a machine of this name."""
    return f"It is next on the machine {node}: it starts there as soon as a run of its kind ends."


def _ahead(count: int) -> str:
    if count <= 0:
        return ""
    return "1 run is ahead of it." if count == 1 else f"{count} runs are ahead of it."


def estimate_ms(*, ahead: int, slots: int, typical_ms: int | None) -> int | None:
    """Milliseconds until the start: the runs ahead, in ``slots`` at once, each of the typical duration.

    None when there is no finished run to learn a duration from. Half a duration is left, on average, of those that run.
    """
    if typical_ms is None or slots <= 0:
        return None
    return (ahead // slots) * typical_ms + typical_ms // 2
