"""Small real stand-ins for the ports of the engine, and a world of them: time stands still, nothing leaves memory."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from runyard.core.run import StopCause
from runyard.core.spec import Credentials, Location
from runyard.engine.world import Rules, SpecShelf, World
from runyard.ports.caches import NO_AGES, Ages, CacheAction
from runyard.ports.executor import LaunchRequest, StageRequest, StoreRequest
from runyard.ports.logs import LogStore
from runyard.ports.metrics import MetricStore
from runyard.ports.objects import Checked, Listing, ObjectEntry, Verdict
from runyard.ports.store import Store
from runyard.testing.builders import NOW
from runyard.testing.memory_logs import MemoryLogs
from runyard.testing.memory_metrics import MemoryMetrics
from runyard.testing.memory_store import MemoryStore


class ManualClock:
    """A :class:`runyard.ports.clock.Clock` that stands still until it is moved forwards."""

    def __init__(self, now_ms: int = NOW) -> None:
        self._now = now_ms

    def now_ms(self) -> int:
        """See :class:`runyard.ports.clock.Clock`."""
        return self._now

    def pass_by(self, ms: int) -> int:
        """Move on; returns the new time."""
        if ms < 0:
            raise ValueError("a clock never steps back")
        self._now += ms
        return self._now


class SeededEntropy:
    """A :class:`runyard.ports.clock.Entropy` that says the same in every test."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)

    def bits(self, count: int) -> int:
        """See :class:`runyard.ports.clock.Entropy`."""
        return self._random.getrandbits(count)


@dataclass(frozen=True, slots=True)
class Stop:
    """A program was to be ended."""

    node_id: str
    run_id: str
    attempt: int
    cause: StopCause
    grace_ms: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """A grant was to be begun no more."""

    node_id: str
    run_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class StopStoring:
    """Storing was to be given up."""

    node_id: str
    run_id: str


@dataclass(frozen=True, slots=True)
class Release:
    """The folders of a run could go."""

    node_id: str
    run_id: str


@dataclass(frozen=True, slots=True)
class Synced:
    """All that still held had been given."""

    node_id: str
    run_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AskedCache:
    """Something was to be done with a cache."""

    node_id: str
    number: int
    action: CacheAction
    bucket: str
    ages: Ages = NO_AGES


@dataclass(frozen=True, slots=True)
class PutBack:
    """GPUs were to be given to runs again."""

    node_id: str


Given: TypeAlias = (
    StageRequest
    | LaunchRequest
    | StoreRequest
    | Stop
    | Withdraw
    | StopStoring
    | Release
    | Synced
    | AskedCache
    | PutBack
)
GivenT = TypeVar(
    "GivenT",
    StageRequest,
    LaunchRequest,
    StoreRequest,
    Stop,
    Withdraw,
    StopStoring,
    Release,
    Synced,
    AskedCache,
    PutBack,
)


class Crashed(BaseException):
    """The server died at this moment: no ``except Exception`` sees it."""


class RecordingExecutor:
    """A :class:`runyard.ports.executor.Executor` that remembers what it was asked, in order.

    ``dies``: the next request is not heard, and :class:`Crashed` is raised in its place.
    """

    def __init__(self) -> None:
        self.given: list[Given] = []
        self.dies = False
        self._lock = threading.Lock()

    def _hear(self, request: Given) -> None:
        if self.dies:
            raise Crashed
        with self._lock:
            self.given.append(request)

    def of(self, kind: type[GivenT]) -> list[GivenT]:
        """What was asked of one kind."""
        with self._lock:
            return [request for request in self.given if isinstance(request, kind)]

    def take(self) -> list[Given]:
        """What was asked since the last time."""
        with self._lock:
            taken, self.given = self.given, []
            return taken

    def stage(self, request: StageRequest) -> None:
        """See :class:`runyard.ports.executor.Executor`."""
        self._hear(request)

    def launch(self, request: LaunchRequest) -> None:
        """See :class:`runyard.ports.executor.Executor`."""
        self._hear(request)

    def stop(self, node_id: str, run_id: str, attempt: int, cause: StopCause, grace_ms: int) -> None:
        """See :class:`runyard.ports.executor.Executor`."""
        self._hear(Stop(node_id, run_id, attempt, cause, grace_ms))

    def withdraw(self, node_id: str, run_id: str, attempt: int) -> None:
        """See :class:`runyard.ports.executor.Executor`."""
        self._hear(Withdraw(node_id, run_id, attempt))

    def store(self, request: StoreRequest) -> None:
        """See :class:`runyard.ports.executor.Executor`."""
        self._hear(request)

    def stop_storing(self, node_id: str, run_id: str) -> None:
        """See :class:`runyard.ports.executor.Executor`."""
        self._hear(StopStoring(node_id, run_id))

    def release(self, node_id: str, run_id: str) -> None:
        """See :class:`runyard.ports.executor.Executor`."""
        self._hear(Release(node_id, run_id))

    def cache(self, node_id: str, number: int, action: CacheAction, bucket: str, ages: Ages = NO_AGES) -> None:
        """See :class:`runyard.ports.executor.Executor`."""
        self._hear(AskedCache(node_id, number, action, bucket, ages))

    def put_back(self, node_id: str) -> None:
        """See :class:`runyard.ports.executor.Executor`."""
        self._hear(PutBack(node_id))

    def synced(self, node_id: str, run_ids: tuple[str, ...]) -> None:
        """See :class:`runyard.ports.executor.Executor`."""
        self._hear(Synced(node_id, run_ids))


class MemoryObjects:
    """A :class:`runyard.ports.objects.ObjectStores` of buckets in memory, the same for every kind of store.

    ``buckets``: account and bucket -> key -> bytes. ``says``: what a bucket answers instead of doing anything.
    ``fails``: every call raises it. ``seen``: the credentials that came with each call.
    """

    def __init__(self) -> None:
        self.buckets: dict[tuple[str, str], dict[str, bytes]] = {}
        self.says: dict[str, Checked] = {}
        self.fails: Exception | None = None
        self.seen: list[tuple[str, Credentials | None]] = []

    def put(self, account_id: str, bucket: str, **objects: bytes) -> None:
        """Make a bucket and write objects into it."""
        self.buckets.setdefault((account_id, bucket), {}).update(objects)

    def _ask(self, location: Location, credentials: Credentials | None, account_id: str) -> Checked:
        self.seen.append((location.bucket, credentials))
        if self.fails is not None:
            raise self.fails
        if location.bucket in self.says:
            return self.says[location.bucket]
        if (account_id, location.bucket) not in self.buckets:
            return Checked(Verdict.not_found, f"There is no bucket {location.bucket}.")
        return Checked(Verdict.ok)

    def check(self, location: Location, credentials: Credentials | None, *, write: bool, account_id: str) -> Checked:
        """See :class:`runyard.ports.objects.ObjectStores`. A bucket to write to need not be there."""
        found = self._ask(location, credentials, account_id)
        absent = found.verdict is Verdict.not_found and location.bucket not in self.says
        return Checked(Verdict.ok) if write and absent else found

    def list(self, location: Location, credentials: Credentials | None, *, account_id: str) -> Listing:
        """See :class:`runyard.ports.objects.ObjectStores`."""
        checked = self._ask(location, credentials, account_id)
        if checked.verdict is not Verdict.ok:
            return Listing(checked)
        prefix = _folder(location.prefix)
        bucket = self.buckets.get((account_id, location.bucket), {})
        below = [(key.removeprefix(prefix), body) for key, body in sorted(bucket.items()) if key.startswith(prefix)]
        return Listing(checked, [ObjectEntry(key, len(body), f"etag-{len(body)}") for key, body in below])

    def read(
        self, location: Location, credentials: Credentials | None, key: str, *, account_id: str
    ) -> tuple[int, Iterator[bytes]] | None:
        """See :class:`runyard.ports.objects.ObjectStores`."""
        self._ask(location, credentials, account_id)
        body = self.buckets.get((account_id, location.bucket), {}).get(_folder(location.prefix) + key)
        return None if body is None else (len(body), iter([body]))

    def delete_prefix(
        self, location: Location, credentials: Credentials | None, prefix: str, *, account_id: str
    ) -> int:
        """See :class:`runyard.ports.objects.ObjectStores`."""
        self._ask(location, credentials, account_id)
        bucket = self.buckets.get((account_id, location.bucket), {})
        gone = [key for key in bucket if key.startswith(_folder(location.prefix) + prefix)]
        for key in gone:
            del bucket[key]
        return len(gone)


def _folder(prefix: str) -> str:
    return f"{prefix.rstrip('/')}/" if prefix else ""


class MemoryVault:
    """A :class:`runyard.ports.vault.Vault` that gives out receipts. :meth:`lose_key`: none of them is good any more."""

    def __init__(self) -> None:
        self._sealed: dict[bytes, tuple[bytes, str]] = {}
        self._made = 0
        self._keys = 0
        self._mark = b"receipt "

    def seal(self, plain: bytes, context: str) -> bytes:
        """See :class:`runyard.ports.vault.Vault`."""
        self._made += 1
        receipt = self._mark + str(self._made).encode()
        self._sealed[receipt] = plain, context
        return receipt

    def open(self, sealed: bytes, context: str) -> bytes:
        """See :class:`runyard.ports.vault.Vault`."""
        plain, made_for = self._sealed.get(sealed, (b"", ""))
        if not made_for or made_for != context:
            raise ValueError("this cannot be opened")
        return plain

    def mark(self) -> bytes:
        """See :class:`runyard.ports.vault.Vault`."""
        return self._mark

    def renew(self) -> None:
        """See :class:`runyard.ports.vault.Vault`."""
        self._keys += 1
        self._mark = f"receipt of key {self._keys} ".encode()

    def lose_key(self) -> None:
        """Forget everything."""
        self._sealed.clear()


@dataclass(frozen=True, slots=True)
class Fakes:
    """What a world was made of, by the types that tests can look into."""

    store: Store = field(default_factory=MemoryStore)
    executor: RecordingExecutor = field(default_factory=RecordingExecutor)
    objects: MemoryObjects = field(default_factory=MemoryObjects)
    vault: MemoryVault = field(default_factory=MemoryVault)
    logs: LogStore = field(default_factory=MemoryLogs)
    metrics: MetricStore = field(default_factory=MemoryMetrics)
    clock: ManualClock = field(default_factory=ManualClock)
    entropy: SeededEntropy = field(default_factory=SeededEntropy)

    def world(self, rules: Rules | None = None) -> World:
        """A server's memory over these: a new one is what a server that was started again has."""
        return World(
            store=self.store,
            executor=self.executor,
            objects=self.objects,
            vault=self.vault,
            logs=self.logs,
            metrics=self.metrics,
            clock=self.clock,
            entropy=self.entropy,
            specs=SpecShelf(self.store),
            rules=rules or Rules(),
        )
