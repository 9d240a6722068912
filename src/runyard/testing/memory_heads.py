"""Which waiting runs of a class come first, for the store in memory."""

from __future__ import annotations

from runyard.core.lifecycle import is_blocked, is_granted
from runyard.core.run import Run, Waiting


def backoff_of(run: Run) -> int:
    """Before when a run does not start, in milliseconds since 1970; 0: at once."""
    return run.state.not_before_ms if isinstance(run.state, Waiting) else 0


def first_of(ready: list[Run], now_ms: int, count: int) -> list[Run]:
    """The heads of a class, of its waiting runs in order."""
    granted = [run for run in ready if is_granted(run)]
    runs = [run for run in ready if not is_blocked(run) and not is_granted(run)]
    may_start = [run for run in runs if backoff_of(run) <= now_ms]
    held_back = sorted((run for run in runs if backoff_of(run) > now_ms), key=lambda run: (backoff_of(run), run.rank))
    return sorted((may_start + held_back)[:count] + granted, key=lambda run: run.rank)
