"""Programs that run on a machine and have no room by the record: what was fenced while the machine was away, what it
began by a grant that was burned.

Each is ordered to end. Until its machine has told that it has, its room is given to nobody. Memory only: machines name
what they hold whenever they connect.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from runyard.core.resources import Resources
from runyard.core.run import FINAL, HOLDS_SLOT, Run, Waiting

Attempt = tuple[str, int]
"""A run and the number of its attempt."""
Slots = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ghost:
    """What a program takes of its machine."""

    attempt: Attempt
    slots: Slots
    resources: Resources

    @property
    def sentence(self) -> str:
        """Why its room is not free."""
        return f"{self.attempt[0]}, whose attempt {self.attempt[1]} was given up, is being ended there."


@dataclass(frozen=True, slots=True)
class Said:
    """What a machine has named as its own: the attempts that it has, those that may live with their slots, and those of
    which nothing has begun."""

    living: Mapping[Attempt, Slots]
    prepared: Collection[Attempt]


NOTHING: Final = Said({}, ())


class Ghosts:
    """The ghosts of each machine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: dict[str, dict[Attempt, Ghost]] = {}
        self._said: dict[str, Said] = {}

    def said(self, node_id: str, said: Said) -> None:
        """A machine has said hello; its orders are to come."""
        with self._lock:
            self._of.pop(node_id, None)
            self._said[node_id] = said

    def take_said(self, node_id: str) -> Said:
        """What a machine has said at its hello, once."""
        with self._lock:
            return self._said.pop(node_id, NOTHING)

    def found(self, node_id: str, ghost: Ghost) -> bool:
        """There is one; False where it is known."""
        with self._lock:
            ghosts = self._of.setdefault(node_id, {})
            if ghost.attempt in ghosts:
                return False
            ghosts[ghost.attempt] = ghost
            return True

    def gone(self, node_id: str, attempt: Attempt) -> Ghost | None:
        """A machine has told that an attempt is over; returns the ghost that it was, None where it was none."""
        ghosts = self._of.get(node_id)
        if not ghosts:
            return None
        with self._lock:
            return ghosts.pop(attempt, None)

    def of(self, node_id: str) -> Sequence[Ghost]:
        """The ghosts of a machine."""
        ghosts = self._of.get(node_id)
        if not ghosts:
            return ()
        with self._lock:
            return tuple(ghosts.values())


def is_current(run: Run, node_id: str, number: int) -> bool:
    """Whether an attempt is what the record has of a run on a machine: it holds room there, or was granted to it."""
    if isinstance(run.state, Waiting):
        return run.state.granted_to == node_id and number == len(run.attempts) + 1
    latest = run.attempt
    if latest is None or run.state_name not in HOLDS_SLOT:
        return False
    return latest.number == number and latest.node_id == node_id


def was_burned(run: Run, number: int) -> bool:
    """Whether an attempt is over by the record, which knows of no program of it."""
    if number > len(run.attempts):
        return False
    attempt = run.attempts[number - 1]
    return attempt.released_ms is not None and attempt.started_ms is None


def has_begun_unseen(run: Run, node_id: str, number: int) -> bool:
    """Whether an attempt that has begun on a machine is none by the record, while its run goes on."""
    if run.state_name in FINAL:
        return False
    unknown = number > len(run.attempts) and not is_current(run, node_id, number)
    return unknown or was_burned(run, number)
