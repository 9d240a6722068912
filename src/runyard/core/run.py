"""A training run and its attempts. The state is a tagged union; THE transition table stands here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

from runyard.core.reasons import Reason
from runyard.core.resources import Resources


class StateName(StrEnum):
    """The names of the states, as users see them."""

    waiting = "waiting"
    starting = "starting"
    running = "running"
    stopping = "stopping"
    storing = "storing"
    completed = "completed"
    failed = "failed"
    canceled = "canceled"


class StopCause(StrEnum):
    """Why a running program is asked to stop."""

    cancel = "cancel"
    time_limit = "time_limit"
    preempt = "preempt"
    prune = "prune"
    fenced = "fenced"
    disk_limit = "disk_limit"
    idle = "idle"
    requeue = "requeue"


BLOCKED: Final = 1 << 62
"""As ``not_before_ms`` of a waiting run: it waits for other runs (``after``): an event, not the time, frees it."""

GRANT: Final = "grant"
"""As ``way`` of an attempt: it has no room of its own, only that of another which it may take over. That of a granted
run that was canceled, until its node has answered."""

GRANTED: Final = BLOCKED - 1
"""As ``not_before_ms`` of a waiting run: it was granted ahead to the node ``Waiting.granted_to``, which starts it by
itself as soon as an attempt of its class ends there, or declines after a short while."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run's last attempt (or its staging) ended; final once the program has ended.

    ``outcome`` is one of the three final states. ``detail`` is evidence for people.
    """

    outcome: StateName
    reason: Reason
    exit_code: int | None = None
    signal: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Accepted, holds no slot. ``not_before_ms``: back-off after a platform fault. ``previous``: how the attempt
    before ended, None for the first. ``granted_to``: the node that may start it by itself (:data:`GRANTED`)."""

    not_before_ms: int = 0
    previous: Ending | None = None
    granted_to: str | None = None


@dataclass(frozen=True, slots=True)
class Starting:
    """A slot is assigned, the program has not begun."""


@dataclass(frozen=True, slots=True)
class Running:
    """The program runs. ``trouble``: a sentence on a GPU of it that has reported an error, empty while all is well.
    ``quiet``: a :class:`runyard.core.idle.Quiet` while it does nothing, since ``quiet_since_ms``."""

    trouble: str = ""
    quiet: str = ""
    quiet_since_ms: int = 0


@dataclass(frozen=True, slots=True)
class Stopping:
    """Asked to stop since ``since_ms``; the grace runs. ``detail``: a sentence on whose behalf, where there is one."""

    cause: StopCause
    since_ms: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Storing:
    """The program has ended (or never begun: staging failed) and the slot is free; results are on their way.

    ``problem``: the sentence of the last failed try, empty when none failed. ``tries``: failed tries so far.
    """

    ending: Ending
    problem: str = ""
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """Final. ``ending.outcome`` names the state. ``note`` says what was not stored, when something was not."""

    ending: Ending
    note: str = ""


State: TypeAlias = Waiting | Starting | Running | Stopping | Storing | Finished

HOLDS_SLOT: Final = frozenset({StateName.starting, StateName.running, StateName.stopping})
FINAL: Final = frozenset({StateName.completed, StateName.failed, StateName.canceled})

TRANSITIONS: Final[Mapping[StateName, frozenset[StateName]]] = MappingProxyType(
    {
        StateName.waiting: frozenset(
            {StateName.waiting, StateName.starting, StateName.stopping, StateName.storing, StateName.canceled}
        ),
        StateName.starting: frozenset(
            {StateName.starting, StateName.running, StateName.stopping, StateName.storing, StateName.waiting}
        ),
        StateName.running: frozenset({StateName.running, StateName.stopping, StateName.storing, StateName.waiting}),
        StateName.stopping: frozenset({StateName.stopping, StateName.storing, StateName.waiting}),
        StateName.storing: frozenset({StateName.storing, StateName.completed, StateName.failed, StateName.canceled}),
        StateName.completed: frozenset(),
        StateName.failed: frozenset(),
        StateName.canceled: frozenset(),
    }
)
"""From each state, the states that may follow. SQL guards and the diagram in the docs are derived from it."""

_NAMES: Final[Mapping[type, StateName]] = MappingProxyType(
    {
        Waiting: StateName.waiting,
        Starting: StateName.starting,
        Running: StateName.running,
        Stopping: StateName.stopping,
        Storing: StateName.storing,
    }
)


def name_of(state: State) -> StateName:
    """The name of a state."""
    return state.ending.outcome if isinstance(state, Finished) else _NAMES[type(state)]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a run: what is launched, watched, fenced and billed.

    ``slots`` are slot numbers of the node. ``released_ms``: the slot was given back. ``log_bytes``: final size of the
    log, once known. ``way``: how its program was started, ``warm`` (a fork of a parent with the framework imported),
    ``exec`` or ``container``, empty before it began; ``way_note``: why, or what that saved, in a sentence.
    """

    number: int
    node_id: str
    slots: tuple[int, ...]
    assigned_ms: int
    started_ms: int | None = None
    released_ms: int | None = None
    ending: Ending | None = None
    log_bytes: int | None = None
    tamper_proof: bool | None = None
    peak_memory_mib: int | None = None
    way: str = ""
    way_note: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """A training run: identity, what it asks for, where it is. ``version`` guards every change.

    ``class_id`` is the queue class (account, priority, shape); ``rank`` its place in the order of the queue, lower
    first. ``ready_on`` is the node where code and data are ready, None while staging. ``parameters`` are the
    hyper-parameters of this run as JSON text. ``finished_ms``: the program had ended (or the run, where none began);
    ``stored_ms``: the results were complete in their bucket.
    """

    id: str
    seq: int
    account_id: str
    member_id: str
    name: str
    spec_id: int
    parameters: str
    class_id: int
    resources: Resources
    priority: int
    rank: int
    state: State
    version: int
    created_ms: int
    max_retries: int = 0
    attempts: tuple[Attempt, ...] = ()
    ready_on: str | None = None
    staged_ms: int | None = None
    finished_ms: int | None = None
    stored_ms: int | None = None
    tags: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def state_name(self) -> StateName:
        """The name of its state."""
        return name_of(self.state)

    @property
    def attempt(self) -> Attempt | None:
        """The latest attempt, None before the first."""
        return self.attempts[-1] if self.attempts else None
