"""What the scheduler looks at: aggregated, so that its size does not grow with the depth of the queue."""

from __future__ import annotations

from dataclasses import dataclass

from runyard.core.resources import Resources


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """A node's free room. ``free_slots``: numbers of its free GPU slots, ascending; ``free``: what is left of all.

    ``closed``: why nothing may start there now (not connected, draining, its disk full), None when open.
    """

    id: str
    free_slots: tuple[int, ...]
    free: Resources
    closed: str | None = None


@dataclass(frozen=True, slots=True)
class AccountRoom:
    """An account's GPU quota (None: no limit of its own), what it holds of it, and whether its queue is paused."""

    id: str
    quota_gpus: int | None
    used_gpus: int
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Head:
    """A waiting run near the front of its class: ready on ``node_id``, not before ``not_before_ms``. ``granted``: the
    node may start it by itself already."""

    run_id: str
    rank: int
    node_id: str
    not_before_ms: int = 0
    granted: bool = False


@dataclass(frozen=True, slots=True)
class QueueClass:
    """The ready runs of one account, priority and shape. ``heads``: the first few of them, by rank, ascending."""

    id: int
    account_id: str
    priority: int
    shape: Resources
    heads: tuple[Head, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a plan depends on. ``paused``: the whole queue is held. ``depth``: how many heads of each class were
    looked for, beside the granted ones; 0: all that there are."""

    now_ms: int
    nodes: tuple[NodeRoom, ...]
    accounts: tuple[AccountRoom, ...]
    classes: tuple[QueueClass, ...]
    paused: bool = False
    depth: int = 0
