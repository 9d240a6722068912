"""Where runs are executed, as idempotent requests; what happened comes back as facts to the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from runyard.core.run import StopCause
from runyard.core.spec import (
    NO_EVALUATION,
    OWN_ENVIRONMENT,
    Credentials,
    EnvironmentRequest,
    EvaluationMetrics,
    Location,
)
from runyard.ports.caches import NO_AGES, Ages, CacheAction
from runyard.ports.objects import ObjectEntry


@dataclass(frozen=True, slots=True)
class DataPart:
    """One data reference of a transfer plan: where from, what (keys, sizes, etags), with which credentials.

    ``entries`` is empty for host paths (:attr:`StoreKind.volume`), which the node reads in place.
    """

    location: Location
    entries: tuple[ObjectEntry, ...]
    credentials: Credentials | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Warm:
    """Whose warm parent may fork a program, and which modules it has imported (:class:`runyard.wire.orders.Warm`)."""

    account_id: str
    member_number: int
    preload: tuple[str, ...] = ()
    login: str = ""


@dataclass(frozen=True, slots=True)
class StageRequest:
    """Make the code and data of a spec ready on a node.

    ``listed`` is False within a launch when the node is known to have the spec ready: ``data`` is left out then.
    ``warm`` None: programs of it are started the slow way. ``guessed``: it is taken to be ready there already.
    ``registry``: credentials for the registry of its image.
    """

    node_id: str
    spec_id: int
    account_id: str
    code_sha256: str | None
    data: tuple[DataPart, ...]
    listed: bool = True
    environment: EnvironmentRequest = OWN_ENVIRONMENT
    warm: Warm | None = None
    guessed: bool = False
    registry: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Origin:
    """The run whose checkpoints an attempt starts from, and where its results are."""

    run_id: str
    results: Location
    credentials: Credentials | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """Everything a node needs to start one attempt, secrets included (they are handed over, never written down).

    ``command`` has its placeholders filled. ``member_number`` gives the user id, or ``login``, the
    member's id, does so by the operator's settings. ``stage`` lets the node stage again
    should it have lost what was ready. ``gpus``, ``cpu_millis`` and ``memory_mib`` are of one of the ``learners``;
    ``slots`` are those of all of them. ``hold_ms`` above 0: a grant ahead, without slots of its own, which the node
    starts when an attempt of the same ``queue_class`` ends there, or declines after so many milliseconds.
    """

    node_id: str
    run_id: str
    attempt: int
    name: str
    command: str
    parameters: str
    env: Mapping[str, str]
    secret_env: Mapping[str, str] = field(repr=False)
    member_number: int
    gpus: int
    slots: tuple[int, ...]
    cpu_millis: int
    memory_mib: int
    max_runtime_ms: int | None
    grace_ms: int
    outputs: tuple[str, ...]
    stage: StageRequest
    results: Location
    account_id: str
    results_credentials: Credentials | None = field(default=None, repr=False)
    learners: int = 1
    launch: str = "learner"
    start_from: Origin | None = None
    shm_mib: int | None = None
    network: bool = True
    evaluation: EvaluationMetrics = NO_EVALUATION
    queue_class: int = 0
    hold_ms: int = 0
    until_ms: int = 0
    login: str = ""
    idle_ms: int = 0


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """Store the results of a run. ``attempt`` 0: no program ever began, there is only the ``evidence`` of staging."""

    node_id: str
    run_id: str
    spec_id: int
    attempt: int
    earlier_attempts: tuple[int, ...]
    outputs: tuple[str, ...]
    results: Location
    account_id: str
    credentials: Credentials | None = field(default=None, repr=False)
    evidence: str = ""
    learners: int = 1
    member_number: int = 0
    login: str = ""


class Executor(Protocol):
    """Requests to nodes. Each may be given again at any time and then does nothing new; none waits for its outcome."""

    def stage(self, request: StageRequest) -> None:
        """Fetch and unpack."""
        ...

    def launch(self, request: LaunchRequest) -> None:
        """Start the program."""
        ...

    def stop(self, node_id: str, run_id: str, attempt: int, cause: StopCause, grace_ms: int) -> None:
        """End the program: SIGTERM, the grace, SIGKILL."""
        ...

    def withdraw(self, node_id: str, run_id: str, attempt: int) -> None:
        """Begin a run no more that was granted ahead as this attempt, where it has not begun."""
        ...

    def store(self, request: StoreRequest) -> None:
        """Upload results, logs and evidence."""
        ...

    def stop_storing(self, node_id: str, run_id: str) -> None:
        """Give up storing; what is stored stays."""
        ...

    def release(self, node_id: str, run_id: str) -> None:
        """The run is final: its folders may go."""
        ...

    def cache(self, node_id: str, number: int, action: CacheAction, bucket: str, ages: Ages = NO_AGES) -> None:
        """Do something with the cache of data, and tell what it holds, with this number. ``ages``: from which on
        entries go by ``expire``."""
        ...

    def put_back(self, node_id: str) -> None:
        """Give GPUs to runs again that were kept back for errors of theirs."""
        ...

    def synced(self, node_id: str, run_ids: tuple[str, ...]) -> None:
        """All requests that still hold have been given: the node releases every run but these."""
        ...
