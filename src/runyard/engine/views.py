"""What people and programs are shown: plain records with times as ISO 8601 text and money as decimal text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from runyard.core.spec import Scalar


def iso(ms: int | None) -> str | None:
    """Milliseconds since the epoch as ISO 8601 UTC with milliseconds, None for None."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def money(micro: int) -> str:
    """Micro-units of money as decimal text with six digits."""
    return f"{micro // 1_000_000}.{micro % 1_000_000:06d}"


def seconds(ms: int) -> float:
    """Milliseconds as seconds."""
    return ms / 1000


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One attempt of a run."""

    number: int
    node: str
    slots: tuple[int, ...]
    assigned_at: str | None
    started_at: str | None
    released_at: str | None
    reason: str | None
    fault: str | None
    sentence: str | None
    exit_code: int | None
    signal: int | None
    tamper_proof: bool | None
    peak_memory_mib: int | None
    way: str | None
    way_note: str


@dataclass(frozen=True, slots=True)
class ResourcesView:
    """What a run holds while it holds a slot, all its learners together."""

    gpus: int
    cpus: float
    memory_mib: int


@dataclass(frozen=True, slots=True)
class LocationView:
    """Where data or results are. Holds no secret."""

    type: str
    bucket: str
    prefix: str
    endpoint_url: str | None
    name: str = ""
    path: str | None = None


@dataclass(frozen=True, slots=True)
class ProgressView:
    """Bytes fetched of bytes to fetch while a run is staged. ``phase``: what is being done, empty for fetching data."""

    done: int
    total: int
    phase: str = ""


@dataclass(frozen=True, slots=True)
class MetricView:
    """One metric of a run. ``first``, ``last``, ``lowest``, ``highest`` and ``best`` (the lowest where the name says
    that it is to become small, such as a loss; else the highest) are of its finite values, None without any; a step is
    None where the point had none."""

    group: str
    name: str
    points: int
    first: float | None
    last: float | None
    last_step: int | None
    last_at: str | None
    lowest: float | None
    lowest_step: int | None
    highest: float | None
    highest_step: int | None
    best: float | None
    best_step: int | None


@dataclass(frozen=True, slots=True)
class RunView:
    """A training run. ``secrets``: the names of those that its program gets; ``metrics``: by ``group/name``, in lists
    the few that tell most."""

    id: str
    name: str
    account: str
    member: str
    state: str
    readiness: str | None
    reason: str | None
    sentence: str | None
    fault: str | None
    position: int | None
    estimate: str | None
    attempts: tuple[AttemptView, ...]
    created_at: str | None
    staged_at: str | None
    started_at: str | None
    finished_at: str | None
    stored_at: str | None
    exit_code: int | None
    gpu_seconds: float
    cpu_seconds: float
    gb_seconds: float
    cost: str
    results: LocationView
    hyper_parameters: Mapping[str, Scalar]
    command: str
    framework: str
    resources: ResourcesView
    learners: int
    priority: int
    tags: tuple[str, ...]
    notes: tuple[str, ...]
    definition: str | None
    description: str
    staging: ProgressView | None
    max_runtime_seconds: float | None
    data: tuple[LocationView, ...]
    after: tuple[str, ...] = ()
    start_from: str | None = None
    secrets: tuple[str, ...] = ()
    launch: str = "learner"
    provenance: Mapping[str, object] = field(default_factory=dict[str, object])
    environment: Mapping[str, object] = field(default_factory=dict[str, object])
    inputs: tuple[Mapping[str, object], ...] = ()
    metrics: Mapping[str, MetricView] = field(default_factory=dict[str, MetricView])


@dataclass(frozen=True, slots=True)
class ExplainView:
    """Where a run stands, why, and what comes next. ``reserved_at``: room is kept for it, from then at the latest."""

    id: str
    state: str
    readiness: str | None
    sentence: str
    position: int | None
    ahead: int | None
    estimate: str | None
    steps: tuple[str, ...]
    reserved_at: str | None = None


@dataclass(frozen=True, slots=True)
class QueueItemView:
    """A waiting run in its place; one that waits for other runs has none."""

    position: int | None
    id: str
    name: str
    account: str
    priority: int
    readiness: str
    sentence: str


@dataclass(frozen=True, slots=True)
class QueueView:
    """The queue as an account sees it. ``waiting``: how many runs of the account wait in all."""

    paused: bool
    account_paused: bool
    waiting: int
    items: tuple[QueueItemView, ...]


@dataclass(frozen=True, slots=True)
class NodeView:
    """A machine. ``notes``: what is not isolated on it; ``features``: what it can do beyond the ground; ``shut_gpus``:
    sentences on GPUs that it keeps back."""

    id: str
    name: str
    connected: bool
    gpus: tuple[str, ...]
    logical_gpus: bool
    cpus: float
    memory_mib: int
    version: str
    seen_at: str | None
    closed: str | None
    notes: tuple[str, ...]
    features: tuple[str, ...] = ()
    shut_gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SlotsView:
    """GPU slots of all connected machines."""

    total: int
    used: int


@dataclass(frozen=True, slots=True)
class BudgetView:
    """What an account may spend in a period (None: no limit of that kind), what it has spent of it, running attempts
    with it, and what that means: ``sentence`` is a warning, or why nothing new starts (``stopped``); None while all is
    well. ``opens_at``: when the next period begins."""

    per: str
    gpu_hours: float | None
    money: str | None
    warn_percent: int
    spent_gpu_hours: float
    spent_money: str
    percent: int
    stopped: bool
    sentence: str | None
    opens_at: str | None


@dataclass(frozen=True, slots=True)
class ShareView:
    """An account's part of the machines, in GPUs. ``due`` to it by its weight among those that hold or want something
    (0 for one that does neither), ``in_use``, ``borrowed`` beyond what is due, ``lent``: due to it and held by others.
    ``used_gpu_hours``: what it has used of late, decayed."""

    weight: float
    used_gpu_hours: float
    due: float = 0.0
    in_use: float = 0.0
    borrowed: float = 0.0
    lent: float = 0.0


@dataclass(frozen=True, slots=True)
class QuotaView:
    """An account's quota (None: no limit; of GPUs, all slots) and what it has of each part now; its share and
    budget; the hours in which its runs may start (None: all)."""

    account: str
    gpus: int | None
    used_gpus: int
    slots: int
    plan: str
    cpu_millis: int | None
    used_cpu_millis: int
    memory_mib: int | None
    used_memory_mib: int
    waiting: int | None
    used_waiting: int
    storage_bytes: int | None
    used_storage_bytes: int | None
    share: ShareView | None = None
    budget: BudgetView | None = None
    window: str | None = None


@dataclass(frozen=True, slots=True)
class UsageItemView:
    """Sums of one group of ledger entries."""

    group: str
    runs: int
    attempts: int
    gpu_seconds: float
    cpu_seconds: float
    gb_seconds: float
    cost: str
    waste_gpu_seconds: float


@dataclass(frozen=True, slots=True)
class UsageView:
    """The bill, grouped, and its total."""

    by: str
    items: tuple[UsageItemView, ...]
    total: UsageItemView
