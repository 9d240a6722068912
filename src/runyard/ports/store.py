"""The store of record: runs, events, ledger, accounts. Synchronous; every write is one durable transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

from runyard.core.events import EventKind, Recorded
from runyard.core.lifecycle import Transition
from runyard.core.metering import LedgerEntry
from runyard.core.resources import Resources
from runyard.core.run import Run, StateName
from runyard.core.scheduling.snapshot import QueueClass
from runyard.core.spec import OWN_ENVIRONMENT, Connection, EnvironmentRequest, RunSpec, StoreKind
from runyard.core.use import Held
from runyard.ports.accounts import Accounts
from runyard.ports.audit import AuditLog
from runyard.ports.canceling import Canceling
from runyard.ports.dependencies import Dependencies
from runyard.ports.environments import NO_FACTS, Environments, SpecFacts
from runyard.ports.notes import Notes
from runyard.ports.retention import Retention
from runyard.ports.sealed import SealedTexts
from runyard.ports.secrets import Secrets
from runyard.ports.shares import Shares
from runyard.ports.summaries import Summaries

NO_PACE: Final[Mapping[int, int]] = MappingProxyType({})
NOT_CLOSED: Final[Mapping[str, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ConnectionRecord:
    """A stored connection of an account; ``sealed`` holds its credentials encrypted, None when it has none."""

    account_id: str
    name: str
    kind: StoreKind
    connection: Connection
    created_ms: int
    sealed: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Definition:
    """A model definition that was uploaded: SHA-256 (hex) of the zip, its size in bytes.

    ``mentions_config``: whether any file in it mentions ``config.json``; None when nobody looked.
    """

    account_id: str
    sha256: str
    size: int
    created_ms: int
    mentions_config: bool | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """Runs of one manifest, to be accepted together or not at all.

    ``ids``, ``parameters`` (JSON objects as text) and ``names`` have one entry a run. ``notes`` are sentences for
    every run's page. ``append_args``: hyper-parameters are appended to the command. ``provenance``: git commit,
    client and the like, as the client told. An idempotency key is (account, key), with a digest of the request.
    ``after``: runs that each of these waits for and that are not completed; with any, the runs are accepted as
    :data:`~runyard.core.run.BLOCKED`; else they are held back until the spec's ``start_after_ms``. ``ready_on``: the
    node that has their code and data ready already, as by :meth:`Store.mark_staged` in the same transaction; None: none
    is known.
    """

    account_id: str
    member_id: str
    spec: RunSpec
    resources: Resources
    ids: tuple[str, ...]
    names: tuple[str, ...]
    parameters: tuple[str, ...]
    now_ms: int
    code_sha256: str | None = None
    sealed: bytes | None = field(default=None, repr=False)
    append_args: bool = False
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, object] = field(default_factory=dict[str, object])
    idempotency_key: str | None = None
    request_digest: str = ""
    environment: EnvironmentRequest = OWN_ENVIRONMENT
    after: tuple[str, ...] = ()
    ready_on: str | None = None


@dataclass(frozen=True, slots=True)
class StoredSpec:
    """What the runs of one submission share."""

    id: int
    account_id: str
    spec: RunSpec
    code_sha256: str | None
    append_args: bool
    provenance: Mapping[str, object]
    sealed: bytes | None = field(default=None, repr=False)
    environment: EnvironmentRequest = OWN_ENVIRONMENT


@dataclass(frozen=True, slots=True)
class RunQuery:
    """A filter over an account's runs (None: of all accounts), newest first.

    ``before_seq``: continue below this sequence number (the cursor).
    """

    account_id: str | None
    states: frozenset[StateName] = frozenset()
    tag: str | None = None
    name: str | None = None
    before_seq: int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Node:
    """A machine that executes runs. ``total``: what it offers; ``gpu_names`` one a slot; ``logical``: GPUs are only
    slots without a device. ``connected``: its stream is open now. ``closed``: why nothing may start on it.
    ``features``, ``python`` and ``packages``: what its hello said it can do and has (``wire.facts.Hello``).
    ``draining_ms``: somebody has asked then that nothing new start on it; ``put_node`` does not write it."""

    id: str
    name: str
    boot_id: str
    total: Resources
    gpu_names: tuple[str, ...]
    logical: bool
    version: str
    seen_ms: int
    connected: bool = False
    closed: str | None = None
    notes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    python: str = ""
    packages: Mapping[str, str] = field(default_factory=dict[str, str])
    draining_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Holding:
    """An attempt that holds room on a node now, since ``since_ms``, of a run of the queue class ``class_id``.
    ``limit_ms``: how long its program may run (None: no limit); ``stopping``: it was asked to end."""

    run_id: str
    attempt: int
    account_id: str
    node_id: str
    slots: tuple[int, ...]
    resources: Resources
    class_id: int = 0
    priority: int = 50
    since_ms: int = 0
    limit_ms: int | None = None
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Sums over ledger entries of one group. ``group`` is an account, user, day (YYYY-MM-DD) or tag.

    ``runs`` and ``attempts`` count all entries; the amounts and ``cost`` are of those that are billed, and
    ``waste_gpu_ms`` of the others.
    """

    group: str
    runs: int
    attempts: int
    gpu_ms: int
    cpu_ms: int
    gb_ms: int
    cost: int
    waste_gpu_ms: int


class Store(
    Accounts,
    Environments,
    Secrets,
    SealedTexts,
    Dependencies,
    Summaries,
    Canceling,
    Notes,
    Shares,
    AuditLog,
    Retention,
    Protocol,
):
    """The store of record. Methods that change something commit before they return, or change nothing."""

    # connections and model definitions
    def put_connection(self, record: ConnectionRecord) -> None:
        """Create or replace."""
        ...

    def connection(self, account_id: str, name: str) -> ConnectionRecord | None:
        """The stored connection of that name."""
        ...

    def connections(self, account_id: str) -> Sequence[ConnectionRecord]:
        """All stored connections of an account, by name."""
        ...

    def delete_connection(self, account_id: str, name: str) -> bool:
        """Remove a stored connection; False when there is none of that name."""
        ...

    def add_definition(self, definition: Definition) -> None:
        """Record an uploaded model definition; a second time changes nothing but a None ``mentions_config``."""
        ...

    def definition(self, account_id: str, sha256: str) -> Definition | None:
        """What the account uploaded under that digest."""
        ...

    def definition_known(self, sha256: str) -> bool:
        """Whether any account has it (for the keeper of the files and for nodes, never told to users)."""
        ...

    # runs
    def submit(self, submission: Submission) -> tuple[tuple[str, ...], bool]:
        """Accept all runs of a submission in one transaction. Returns their ids, and whether this was a replay.

        Runs get consecutive ``seq`` and ascending ``rank`` in the given order, an ``accepted`` event each (body:
        ``member``), a queue class, and the spec's tags, retries and priority. With a known idempotency key the ids
        of the first time are returned; raises ``Conflict`` when the digest of the request differs from the first
        time's, or when an id is in use, ``NotFound`` when there is no such account, ``Refused``
        (``quota_waiting``) when more runs would wait than the account's quota allows, ``ValueError`` for no runs.
        """
        ...

    def replay(self, account_id: str, idempotency_key: str, request_digest: str) -> tuple[str, ...] | None:
        """The ids that an earlier submission under this key was given, None when there was none; raises ``Conflict``
        when that one's digest differs."""
        ...

    def run(self, run_id: str) -> Run | None:
        """The run of that id."""
        ...

    def runs_of(self, run_ids: Sequence[str]) -> Sequence[Run]:
        """The runs of these ids, in this order; those that are not there are left out."""
        ...

    def runs(self, query: RunQuery) -> Sequence[Run]:
        """Newest first (descending ``seq``)."""
        ...

    def listed(self, query: RunQuery) -> Sequence[tuple[int, str]]:
        """What :meth:`runs` finds: of each run only its ``seq`` and its id."""
        ...

    def run_ids(self, account_id: str | None, prefix: str, limit: int) -> Sequence[str]:
        """Ids that begin with ``prefix`` (case matters), ascending, at most ``limit``."""
        ...

    def counts(self, account_id: str | None) -> Mapping[StateName, int]:
        """How many runs are in each state (states without any may be absent)."""
        ...

    def spec(self, spec_id: int) -> StoredSpec | None:
        """What the runs of one submission share."""
        ...

    def apply(
        self,
        transitions: Sequence[Transition],
        ledger: Sequence[LedgerEntry] = (),
        *,
        whole: bool = False,
        held: Sequence[Held] = (),
    ) -> tuple[bool, ...]:
        """Apply each transition whose ``before.version`` is still the stored one, all in one transaction; with
        ``whole`` all of them or, where one is stale, none.

        Writes the run, its attempts that changed, the events (with sequence numbers in the given order) and those
        ledger entries whose (run, attempt) belongs to an applied transition; an attempt's first entry stands. What they
        spend is added to the days of their accounts, and what was ``held`` by their attempts to the accounts' use,
        decayed by the store's half-life. ``rank`` and ``tags`` stay as they are stored. Tells for each transition
        whether it applied.
        """
        ...

    def delete_run(self, run_id: str, now_ms: int | None = None) -> bool:
        """Remove a final run's row and attempts, with a ``deleted`` event (at the latest event's time, unless told);
        its events and ledger entries stay, and sums by tag know it still. False when absent or not final."""
        ...

    def set_rank(self, run_id: str, position: int, now_ms: int) -> bool:
        """Move a waiting run to ``position`` (from 1; the last, when there are fewer) among the waiting runs of its
        priority, with a ``moved`` event (body: ``position``) and a new version. It stands directly before the run
        that stood there, also in the eyes of a run that holds a slot now and waits again later. False when the run
        is absent or does not wait."""
        ...

    def set_priority(self, run_id: str, priority: int, now_ms: int) -> bool:
        """Give a waiting run another priority (0 to 100) and with it another queue class, with a ``priority`` event
        (body: ``priority``, ``before``) and a new version; it keeps its rank, and what it was granted. False when
        the run is absent or does not wait."""
        ...

    # staging
    def specs_to_stage(self, limit: int) -> Sequence[int]:
        """Specs that have waiting runs which are not ready, in the order of the queue; a spec has the highest priority
        that it or one of its runs was ever given."""
        ...

    def mark_staged(
        self, spec_id: int, node_id: str, now_ms: int, fetched: int = 0, facts: SpecFacts = NO_FACTS
    ) -> int:
        """All waiting runs of the spec that are not ready become so (as ``lifecycle.staged``, with an event each, which
        tells the bytes that had to be ``fetched``). ``facts`` are kept with the first of them
        (:meth:`put_spec_facts`)."""
        ...

    def unstage(self, node_id: str) -> int:
        """Waiting runs that were ready on the node no longer are (it lost its cache), each with a new version and
        without an event; returns how many."""
        ...

    def waiting_of_spec(self, spec_id: int, limit: int) -> Sequence[Run]:
        """Waiting runs of a spec, first in the queue first."""
        ...

    # scheduling
    def classes(
        self,
        now_ms: int,
        heads: int,
        *,
        expected: Mapping[int, int] = NO_PACE,
        opens: Mapping[str, int] = NOT_CLOSED,
    ) -> Sequence[QueueClass]:
        """Every class with ready waiting runs, by id, each with its first ``heads`` of them in order of rank. Those
        whose back-off is not over at ``now_ms`` are only taken where the others leave places among the ``heads``, and
        those that wait for other runs (``BLOCKED``) are none: a class may be left without any, though it counts them
        among its ``ready`` ones. Those that were granted
        ahead are heads all the same, beside the first ``heads``, and marked. Heads are given the ``expected``
        milliseconds of their class, and open no earlier than their account does (``opens``); a run that was never
        tried and is held back by a time is one whose start window is not open yet.
        The cost must not grow with the number of waiting runs."""
        ...

    def holdings(self) -> Sequence[Holding]:
        """Every attempt that holds room now, the oldest run first; none that is but a grant (``core.run.GRANT``)."""
        ...

    def ahead_of(self, run: Run) -> int:
        """How many waiting runs (of all accounts) stand before this one: higher priority, or same and lower rank; those
        that wait for other runs do not count."""
        ...

    def waiting_page(self, account_id: str | None, limit: int) -> Sequence[Run]:
        """The waiting runs in the order of the queue, at most ``limit``."""
        ...

    def typical_duration_ms(self, spec_id: int, account_id: str) -> int | None:
        """Median slot time of the last 20 released attempts of the spec, else of the account; None without any.
        Attempts of deleted runs are forgotten."""
        ...

    def active_runs(self, node_id: str) -> Sequence[Run]:
        """Runs that are starting, running, stopping or storing on a node (latest attempt there, or staged there)."""
        ...

    def granted_runs(self, node_id: str) -> Sequence[Run]:
        """Waiting runs that were granted ahead to a node, the oldest first."""
        ...

    def requeued_runs(self, node_id: str) -> Sequence[Run]:
        """Waiting runs whose latest attempt was on a node: its folders there are still needed."""
        ...

    # nodes
    def put_node(self, node: Node) -> None:
        """Create or replace."""
        ...

    def nodes(self) -> Sequence[Node]:
        """All nodes, by id."""
        ...

    # events and ledger
    def events(
        self,
        after_seq: int,
        limit: int,
        *,
        account_id: str | None = None,
        run_id: str | None = None,
        kinds: frozenset[EventKind] = frozenset(),
    ) -> Sequence[Recorded]:
        """Events with ``seq`` > ``after_seq``, ascending."""
        ...

    def last_seq(self) -> int:
        """The sequence number of the last committed event, 0 before the first."""
        ...

    def latest_event_ms(self) -> int:
        """Time of the latest event, 0 before the first: the clock of a restarted server starts no earlier."""
        ...

    def ledger(self, run_id: str) -> Sequence[LedgerEntry]:
        """The entries of a run, by attempt; those of a deleted run too."""
        ...

    def usage(self, account_id: str | None, by: str, since_ms: int | None, until_ms: int | None) -> Sequence[UsageRow]:
        """Sum the ledger by ``account``, ``user`` (name of the member), ``day`` (UTC) or ``tag`` (an entry counts
        once for each of its tags), in order of the group. Taken are entries with ``since_ms`` <= ``from_ms`` <
        ``until_ms``, and an entry's day is that of its ``from_ms``. Raises ``ValueError`` for another ``by``."""
        ...

    def close(self) -> None:
        """Let go of files and connections. Nothing else may be called afterwards."""
        ...
