"""What the service tells of accounts, queues, stored data and itself, as values; ``raw`` is the whole JSON object."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from runyard.client.decode import (
    Json,
    child,
    children,
    integer,
    integer_or_none,
    moment,
    number,
    text,
    text_or_none,
    texts,
    truth,
)


@dataclass(frozen=True, slots=True)
class Status:
    """The service: its version, who we are to it, its machines and what it is doing. ``counts``: runs by state."""

    version: str
    started_at: datetime | None
    account: str
    member: str
    nodes: tuple[Json, ...]
    slots_total: int
    slots_used: int
    counts: dict[str, int]
    queue_paused: bool
    url: str
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Status:
        """Read one."""
        slots, counts = child(raw, "slots"), child(raw, "counts")
        return Status(
            text(raw, "version"),
            moment(raw, "started_at"),
            text(raw, "account"),
            text(raw, "member"),
            children(raw, "nodes"),
            integer(slots, "total"),
            integer(slots, "used"),
            {state: integer(counts, state) for state in counts},
            truth(raw, "queue_paused"),
            text(raw, "url"),
            raw,
        )


@dataclass(frozen=True, slots=True)
class QueuedRun:
    """A waiting run in the order in which runs will start; ``position`` from 1."""

    position: int | None
    id: str
    name: str
    account: str
    priority: int
    readiness: str | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Queue:
    """The queue: whether it is held, and who waits. ``waiting`` counts them all, listed or not."""

    paused: bool
    account_paused: bool
    items: tuple[QueuedRun, ...]
    waiting: int
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Queue:
        """Read one."""
        items = tuple(
            QueuedRun(
                integer_or_none(each, "position"),
                text(each, "id"),
                text(each, "name"),
                text(each, "account"),
                integer(each, "priority"),
                text_or_none(each, "readiness"),
                text(each, "sentence"),
            )
            for each in children(raw, "items")
        )
        return Queue(truth(raw, "paused"), truth(raw, "account_paused"), items, integer(raw, "waiting"), raw)


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine. ``running``: attempts that hold room on it; ``closed``: why nothing may start there, None when it
    may; ``draining_since``: None while it is not being drained; ``shut_gpus``: sentences on GPUs that it keeps back."""

    id: str
    name: str
    connected: bool
    gpus: int
    running: int
    closed: str | None
    draining_since: datetime | None
    shut_gpus: tuple[str, ...]
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Machine:
        """Read one."""
        node = child(raw, "node")
        return Machine(
            text(node, "id"),
            text(node, "name"),
            truth(node, "connected"),
            len(texts(node, "gpus")),
            integer(raw, "running"),
            text_or_none(node, "closed"),
            moment(raw, "draining_since"),
            texts(node, "shut_gpus"),
            raw,
        )


@dataclass(frozen=True, slots=True)
class UsageLine:
    """What one group (account, user, day or tag) held, in seconds; ``cost`` is text with six decimals."""

    group: str
    runs: int
    attempts: int
    gpu_seconds: float
    cpu_seconds: float
    gb_seconds: float
    cost: str
    waste_gpu_seconds: float

    @staticmethod
    def of(raw: Json) -> UsageLine:
        """Read one."""
        return UsageLine(
            text(raw, "group"),
            integer(raw, "runs"),
            integer(raw, "attempts"),
            number(raw, "gpu_seconds"),
            number(raw, "cpu_seconds"),
            number(raw, "gb_seconds"),
            text(raw, "cost"),
            number(raw, "waste_gpu_seconds"),
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """The bill, grouped."""

    by: str
    items: tuple[UsageLine, ...]
    total: UsageLine
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Usage:
        """Read one."""
        items = tuple(UsageLine.of(each) for each in children(raw, "items"))
        return Usage(text(raw, "by"), items, UsageLine.of(child(raw, "total")), raw)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of the embedded store; size in bytes."""

    key: str
    size: int
    etag: str
    modified_at: datetime | None

    @staticmethod
    def of(raw: Json) -> StoredObject:
        """Read one."""
        return StoredObject(text(raw, "key"), integer(raw, "size"), text(raw, "etag"), moment(raw, "modified_at"))


@dataclass(frozen=True, slots=True)
class CachedBucket:
    """A listing of a bucket that a machine has at hand. Bytes: ``size`` of all its objects, ``own`` counted for it and
    for no other that shares some of them. ``address``: end-point of the store, empty for the embedded one."""

    kind: str
    address: str
    bucket: str
    prefix: str
    objects: int
    size: int
    own: int
    last_used_at: datetime | None
    pinned: bool
    in_use: bool

    @staticmethod
    def of(raw: Json) -> CachedBucket:
        """Read one."""
        return CachedBucket(
            text(raw, "kind"),
            text(raw, "address"),
            text(raw, "bucket"),
            text(raw, "prefix"),
            integer(raw, "objects"),
            integer(raw, "bytes"),
            integer(raw, "own_bytes"),
            moment(raw, "last_used_at"),
            truth(raw, "pinned"),
            truth(raw, "in_use"),
        )


@dataclass(frozen=True, slots=True)
class NodeCache:
    """One machine's cache: bytes of all in it and its limit. ``answered`` False: the machine is away."""

    node: str
    answered: bool
    size: int
    limit: int
    items: tuple[CachedBucket, ...]
    pins: tuple[str, ...]
    removed: int
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> NodeCache:
        """Read one."""
        return NodeCache(
            text(raw, "node"),
            truth(raw, "answered"),
            integer(raw, "bytes"),
            integer(raw, "limit_bytes"),
            tuple(CachedBucket.of(each) for each in children(raw, "items")),
            texts(raw, "pins"),
            integer(raw, "removed"),
            raw,
        )


@dataclass(frozen=True, slots=True)
class Connection:
    """A stored connection; the service masks the key id and never tells the secret."""

    name: str
    type: str
    endpoint_url: str | None
    region: str | None
    path: str | None
    access_key_id: str | None
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Connection:
        """Read one."""
        return Connection(
            text(raw, "name"),
            text(raw, "type"),
            text_or_none(raw, "endpoint_url"),
            text_or_none(raw, "region"),
            text_or_none(raw, "path"),
            text_or_none(raw, "access_key_id"),
            raw,
        )
