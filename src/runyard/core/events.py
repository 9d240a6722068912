"""Events: what happened to a run, in order. History, metering, audit and the live stream are folds of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class EventKind(StrEnum):
    """What an event tells."""

    accepted = "accepted"
    staged = "staged"
    unblocked = "unblocked"
    staging_problem = "staging_problem"
    assigned = "assigned"
    running = "running"
    gpu_error = "gpu_error"
    quiet = "quiet"
    active = "active"
    stopping = "stopping"
    attempt_ended = "attempt_ended"
    requeued = "requeued"
    storing = "storing"
    store_problem = "store_problem"
    finished = "finished"
    moved = "moved"
    priority = "priority"
    deleted = "deleted"
    swept = "swept"


@dataclass(frozen=True, slots=True)
class Event:
    """One fact about a run. ``at_ms``: when the server wrote it. ``body`` holds JSON values."""

    kind: EventKind
    run_id: str
    account_id: str
    at_ms: int
    attempt: int | None = None
    body: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event with its sequence number: commit-ordered, without gaps that fill later."""

    seq: int
    event: Event
