"""What the scheduler looks at: aggregated, so that its size does not grow with the depth of the queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from runyard.core.resources import Resources

NOTHING: Final = Resources()

HALF_LIFE_MS: Final = 7 * 24 * 3_600_000
"""What an account has used counts half after so long."""
SETTLE_MS: Final = 60_000
"""An attempt younger than this is not stopped for others: it would come to nothing."""

DAY_MS: Final = 24 * 3_600_000

LOAN_MS: Final = 2_700_000
"""An account may have had its due of so long too much before a run of it that is larger than that due is stopped."""

PATIENCE_MS: Final = DAY_MS // 2
"""A run that was promised room for so long goes before all others of its priority."""


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """A node's free room. ``free_slots``: numbers of its free GPU slots, ascending; ``free``: what is left of all.

    ``closed``: why nothing may start there now (not connected, draining, its disk full), None when open. ``shut``:
    sentences on GPUs that it keeps back; their slots are not free.
    """

    id: str
    free_slots: tuple[int, ...]
    free: Resources
    closed: str | None = None
    shut: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AccountRoom:
    """An account's GPU quota (None: no limit of its own), what it holds of it, and whether its queue is paused.

    ``weight``: its due share is the capacity times this over the sum of the weights of all accounts that hold or want
    something. ``used_ms``: what it has used up to now, decayed: milliseconds of one GPU (of a run without GPUs: the
    share of a machine that it took, in GPUs of that machine). ``quota``: CPUs and memory at once, 0 for no limit of
    that kind; its GPUs are not looked at. ``used``: what it holds now. ``stopped``: the sentence of a budget that is
    used up, None while it may start runs. ``ahead``: whether machines may be granted its runs: whatever is used until a
    grant has run out, its budget is not used up by then, and its start window still open.
    """

    id: str
    quota_gpus: int | None
    used_gpus: int
    paused: bool = False
    weight: float = 1.0
    used_ms: float = 0.0
    quota: Resources | None = None
    used: Resources = NOTHING
    stopped: str | None = None
    ahead: bool = True


@dataclass(frozen=True, slots=True)
class Head:
    """A waiting run near the front of its class: ready on ``node_id`` (empty: on any), not before ``not_before_ms``.

    ``granted``: the node may start it by itself already. ``limit_ms``: how long an attempt may take (None: no limit);
    ``expected_ms``: how long it will, by the pace of its class. ``opens_ms``: its start window begins then.
    """

    run_id: str
    rank: int
    node_id: str
    not_before_ms: int = 0
    granted: bool = False
    limit_ms: int | None = None
    expected_ms: int | None = None
    opens_ms: int = 0


@dataclass(frozen=True, slots=True)
class QueueClass:
    """The ready runs of one account, priority and shape. ``heads``: the first few of them, by rank, ascending;
    ``ready``: how many there are in all, those included that wait for other runs (0: nobody counted)."""

    id: int
    account_id: str
    priority: int
    shape: Resources
    heads: tuple[Head, ...]
    ready: int = 0


@dataclass(frozen=True, slots=True)
class Busy:
    """An attempt that holds room now, since ``since_ms``.

    ``ends_ms``: its end at the latest, by its time limit; ``expected_ms``: its end by the pace of its class; None where
    nobody knows. ``preemptible``: it may be stopped to make room. ``stopping``: it is, already.
    """

    run_id: str
    attempt: int
    class_id: int
    account_id: str
    node_id: str
    slots: tuple[int, ...]
    resources: Resources
    priority: int
    since_ms: int
    ends_ms: int | None = None
    expected_ms: int | None = None
    preemptible: bool = True
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Promise:
    """Room has been kept for a run in every plan since ``since_ms``. ``first``: it is the one that goes before all
    others of its priority until it starts."""

    since_ms: int
    first: bool = False


@dataclass(frozen=True, slots=True)
class Balance:
    """Where an account stood at ``at_ms``, when it had used ``used_ms`` (decayed, as in :class:`AccountRoom`).

    ``over``: what it had had above its due while others waited for room, below zero what it had saved up; millionths of
    a GPU, ms. ``short``: much of what it had waiting lacked room.
    """

    at_ms: int
    used_ms: float
    over: int = 0
    short: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """How the queue is served.

    ``fair_share``: among accounts of one priority, who has had least goes first; else in order of submission.
    ``backfill``: what ends before a reservation begins may use its room. ``preemption``: an account below its due share
    takes back what others have borrowed. ``by_priority``: a run may also take the room of one of lower priority.
    ``settle_ms``: an attempt younger than this is not stopped. ``half_life_ms``: of an account's use. ``patience_ms``:
    who was promised room for so long goes first. ``small_first``: a run takes the smallest machine that has room for
    it, so that large ones stay whole for gangs; else the one with the fewest GPUs free. ``loan_ms``: a run larger than
    its account's due is stopped for others once the account has had its due of so long too much.
    """

    fair_share: bool = True
    backfill: bool = True
    preemption: bool = True
    by_priority: bool = False
    half_life_ms: int = HALF_LIFE_MS
    settle_ms: int = SETTLE_MS
    patience_ms: int = PATIENCE_MS
    small_first: bool = True
    loan_ms: int = LOAN_MS


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a plan depends on. ``paused``: the whole queue is held. ``depth``: how many heads of each class were
    looked for, beside the granted ones; 0: all that there are. ``busy``: what holds the room that is not free.
    ``promises``: by run id, as the plan before this one gave them (none after a restart: they are made anew);
    ``balances``: by account id, as that plan left them."""

    now_ms: int
    nodes: tuple[NodeRoom, ...]
    accounts: tuple[AccountRoom, ...]
    classes: tuple[QueueClass, ...]
    paused: bool = False
    depth: int = 0
    busy: tuple[Busy, ...] = ()
    policy: Policy = Policy()
    promises: Mapping[str, Promise] = field(default_factory=dict[str, Promise])
    balances: Mapping[str, Balance] = field(default_factory=dict[str, Balance])
