"""What every station is given: the ports, and the rules of the house."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from runyard.core.account import Member
from runyard.core.errors import NotFound
from runyard.core.idle import DEFAULT_RULE, IdleRule
from runyard.core.lifecycle import RetryPolicy
from runyard.core.resources import DEFAULT_CONFIGURATIONS, ComputeConfiguration, Price
from runyard.core.retention import Kept, Part
from runyard.core.scheduling.decisions import Plan
from runyard.core.scheduling.snapshot import Balance, Policy, Promise
from runyard.core.spec import Credentials
from runyard.engine.ahead import Ahead
from runyard.engine.bell import Bell
from runyard.engine.caching import Caches
from runyard.engine.ghosts import Ghosts
from runyard.engine.gpus import ShutGpus
from runyard.engine.leases import Leases
from runyard.engine.machines import Machines
from runyard.engine.readiness import Readiness
from runyard.engine.restored import Awaited
from runyard.engine.summing import Summing
from runyard.ports.catalog import Catalog, ClosedCatalog
from runyard.ports.clock import Clock, Entropy
from runyard.ports.definitions import Definitions, NoDefinitions
from runyard.ports.disk import Boundless, Disk
from runyard.ports.executor import Executor
from runyard.ports.logs import LogStore
from runyard.ports.metrics import MetricStore
from runyard.ports.objects import ObjectStores
from runyard.ports.store import Store, StoredSpec
from runyard.ports.vault import Vault

OPENED_S: Final = 10.0
"""How long opened credentials of a spec stay in memory: as long as a burst of launches."""
MOST_CLASSES: Final = 1024
"""Queue classes whose pace is remembered: those of which an attempt has ended last."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings of the operator that decide about runs. ``most_runs``: in one submission; ``policy``: how the queue is
    served; ``keep`` and what begins so: ages from which on things go (0: never), looked at every ``sweep_every_ms`` at
    most; ``results_wait_ms``: so long a machine that stays away is waited for where it has results to store (0: for
    ever); ``disk_reserve``: bytes of the server's disk that nothing new may take; ``idle``: of runs that do nothing."""

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    price: Price = field(default_factory=Price)
    configurations: Mapping[str, ComputeConfiguration] = field(default_factory=lambda: DEFAULT_CONFIGURATIONS)
    most_runs: int = 250_000
    node_lost_after_ms: int = 600_000
    results_wait_ms: int = 7 * 86_400_000
    stage_window: int = 16
    stage_attempts: int = 5
    default_results_bucket: str = "results"
    policy: Policy = field(default_factory=Policy)
    keep: Kept = field(default_factory=dict[Part, int])
    keep_definitions_ms: int = 0
    keep_caches_ms: int = 0
    keep_environments_ms: int = 0
    sweep_every_ms: int = 3_600_000
    disk_reserve: int = 0
    idle: IdleRule = DEFAULT_RULE


class SpecShelf:
    """The last few specs that were read, what was opened of their credentials a short while ago, and members: none of
    it ever changes, and every launch needs it. Memory only."""

    def __init__(self, store: Store, size: int = 256, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._size = size
        self._monotonic = monotonic
        self._specs: OrderedDict[int, StoredSpec] = OrderedDict()
        self._members: dict[str, Member] = {}
        self._opened: OrderedDict[int, tuple[float, Mapping[str, Credentials]]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, spec_id: int) -> StoredSpec:
        """Read a spec. Raises :class:`NotFound`."""
        with self._lock:
            found = self._specs.get(spec_id)
            if found is not None:
                self._specs.move_to_end(spec_id)
                return found
        found = self._store.spec(spec_id)
        if found is None:
            raise NotFound(f"There is no spec {spec_id}.")
        with self._lock:
            self._specs[spec_id] = found
            while len(self._specs) > self._size:
                self._specs.popitem(last=False)
        return found

    def member(self, member_id: str) -> Member | None:
        """Read a member, None when there is none of that id."""
        found = self._members.get(member_id)
        if found is None:
            found = self._store.member(member_id)
            if found is not None:
                with self._lock:
                    if len(self._members) >= self._size:
                        self._members.clear()
                    self._members[member_id] = found
        return found

    def credentials(
        self, spec: StoredSpec, open_sealed: Callable[[], Mapping[str, Credentials]]
    ) -> Mapping[str, Credentials]:
        """What ``open_sealed`` opens of a spec, or did less than some seconds ago."""
        now = self._monotonic()
        with self._lock:
            while self._opened and next(iter(self._opened.values()))[0] < now:
                self._opened.popitem(last=False)
            found = self._opened.get(spec.id)
        if found is not None:
            return found[1]
        opened = open_sealed()
        with self._lock:
            self._opened[spec.id] = (now + OPENED_S, opened)
            self._opened.move_to_end(spec.id)
            while len(self._opened) > self._size:
                self._opened.popitem(last=False)
        return opened


class Pace:
    """How long attempts of each queue class take of late, in milliseconds: an exponential mean, in memory only."""

    def __init__(self) -> None:
        self._means: OrderedDict[int, float] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, class_id: int, took_ms: int) -> None:
        """An attempt has ended."""
        with self._lock:
            mean = self._means.get(class_id, float(took_ms))
            self._means[class_id] = mean + (took_ms - mean) / 4
            self._means.move_to_end(class_id)
            while len(self._means) > MOST_CLASSES:
                self._means.popitem(last=False)

    def means(self) -> Mapping[int, float]:
        """The mean of each class of which an attempt has ended lately."""
        with self._lock:
            return dict(self._means)


class Promises:
    """What the last plan promised and how it left the accounts, in memory only: after a restart the next plan promises
    anew, and nobody owes anything."""

    def __init__(self) -> None:
        self._made: Mapping[str, Promise] = {}
        self._balances: Mapping[str, Balance] = {}

    def keep(self, plan: Plan) -> None:
        """A plan was carried out."""
        self._made, self._balances = plan.promises, plan.balances

    def made(self) -> Mapping[str, Promise]:
        """By run id."""
        return self._made

    def balances(self) -> Mapping[str, Balance]:
        """By account id."""
        return self._balances


@dataclass(frozen=True, slots=True)
class World:
    """The ports and the rules. ``orders`` is held while orders are given, so that nodes see them in a sane order;
    ``summing`` makes summaries of points; ``ahead`` remembers grants, ``ghosts`` programs that should have ended;
    ``awaited`` are the machines that have not been heard of since a restore, ``unnoted`` those whose streams ended
    while the store was away, with what tells whether they are back; ``gpus`` are those that machines keep back;
    ``leases`` hold what somebody was told is here, and ``sweeping`` is held while something goes."""

    store: Store
    executor: Executor
    objects: ObjectStores
    vault: Vault
    logs: LogStore
    metrics: MetricStore
    clock: Clock
    entropy: Entropy
    specs: SpecShelf
    catalog: Catalog = field(default_factory=ClosedCatalog)
    bell: Bell = field(default_factory=Bell)
    rules: Rules = field(default_factory=Rules)
    ready: Readiness = field(default_factory=Readiness)
    pace: Pace = field(default_factory=Pace)
    ahead: Ahead = field(default_factory=Ahead)
    promises: Promises = field(default_factory=Promises)
    orders: threading.RLock = field(default_factory=threading.RLock)
    caches: Caches = field(default_factory=Caches)
    summing: Summing = field(default_factory=Summing)
    machines: Machines = field(default_factory=Machines)
    awaited: Awaited = field(default_factory=Awaited)
    disk: Disk = field(default_factory=Boundless)
    definitions: Definitions = field(default_factory=NoDefinitions)
    leases: Leases = field(default_factory=Leases)
    sweeping: threading.Lock = field(default_factory=threading.Lock)
    gpus: ShutGpus = field(default_factory=ShutGpus)
    ghosts: Ghosts = field(default_factory=Ghosts)
    unnoted: dict[str, Callable[[], bool]] = field(default_factory=dict[str, Callable[[], bool]])
