"""Say in sentences where a waiting run stands: what the same function that plans has decided."""

from __future__ import annotations

from dataclasses import dataclass

from runyard.core.scheduling.plan import Plan, Wait


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a waiting run stands: ``readiness`` is a word of the states table, ``sentence`` the reason for people."""

    readiness: str
    sentence: str


def standing(plan: Plan, class_id: int, run_id: str, *, ahead: int) -> Standing:
    """Explain a ready run. ``ahead``: how many waiting runs stand before it in the order of the queue."""
    if any(start.run_id == run_id for start in plan.starts):
        return Standing("capacity", "It starts now.")
    wait = plan.waits.get(class_id)
    if wait is None:
        return Standing("capacity", f"{ahead} runs are ahead of it.")
    kind, text = wait
    readiness = "quota" if kind is Wait.quota else "paused" if kind is Wait.paused else "capacity"
    queue = f" {ahead} {'run is' if ahead == 1 else 'runs are'} ahead of it." if ahead else ""
    return Standing(readiness, text + queue)


def estimate_ms(*, ahead: int, slots: int, typical_ms: int | None) -> int | None:
    """Milliseconds until the start: the runs ahead, in ``slots`` at once, each of the typical duration.

    None when there is no finished run to learn a duration from. Half a duration is left, on average, of those that run.
    """
    if typical_ms is None or slots <= 0:
        return None
    return (ahead // slots) * typical_ms + typical_ms // 2
