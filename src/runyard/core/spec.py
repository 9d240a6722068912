"""A training run as its author described it: the value that a manifest of either dialect maps to."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

from runyard.core.resources import Resources

Scalar: TypeAlias = str | int | float | bool
"""The value of a hyper-parameter."""


class StoreKind(StrEnum):
    """Where objects live: an S3 end-point, the embedded folder store, or a path of the machine."""

    s3 = "s3"
    local = "local"
    volume = "volume"


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach an object store, without its secrets.

    ``named`` refers to a stored connection and is resolved at submission; ``secret`` is the key under which the
    credentials were split off (see :class:`Credentials`), None for anonymous access and for stores without any.
    """

    endpoint_url: str | None = None
    region: str | None = None
    named: str | None = None
    path: str | None = None
    secret: str | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """The secret half of a connection. Never printed."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Location:
    """A bucket (or container, or folder) of a store and a prefix in it. ``name`` names the reference."""

    kind: StoreKind
    connection: Connection
    bucket: str
    prefix: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Framework:
    """The framework asked for; all empty for whatever the node's own interpreter has. ``python``: the version of Python
    that the manifest names beside it (the Service's ``runtimes``)."""

    name: str = ""
    version: str = ""
    python: str = ""


@dataclass(frozen=True, slots=True)
class EnvironmentRequest:
    """What a run's interpreter must offer, as resolved when it was submitted.

    ``python``: an existing interpreter, virtual or conda environment of the machine, by path or name; the other field
    is empty then. ``packages``: exact pins such as ``torch==2.13.0``: an environment that has them is used, else one
    is built once. Both empty: the node's own interpreter. A ``requirements.txt`` of the model definition adds a layer
    wherever ``python`` is None.

    ``image``: a container image by its full name, in which programs run instead; ``pull``: when it is fetched
    (:data:`runyard.core.images.PULLS`); ``registry``: name of the stored secret with the credentials for that.
    """

    python: str | None = None
    packages: tuple[str, ...] = ()
    image: str = ""
    pull: str = "missing"
    registry: str | None = None


OWN_ENVIRONMENT: Final = EnvironmentRequest()
"""The node's own interpreter."""


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """Size of one learner and how many there are. ``configuration`` is the compute configuration it came from."""

    resources: Resources
    configuration: str | None = None
    learners: int = 1
    gpu_type: str | None = None


@dataclass(frozen=True, slots=True)
class EvaluationMetrics:
    """How metrics are found (dialect two): type, where, and for ``regex_extractor`` its groups (name -> regex)."""

    type: str = "none"
    source: str = ""
    groups: tuple[tuple[str, str], ...] = ()


NO_EVALUATION: Final = EvaluationMetrics()
"""No metrics but those that are found always."""


@dataclass(frozen=True, slots=True)
class Options:
    """The ``runyard:`` keys, valid in both dialects. Durations in milliseconds; ``start_after_ms`` since the epoch.
    ``idle_after_ms`` (0: never) and ``idle_then`` (see :mod:`runyard.core.idle`): None and empty for the operator's."""

    hyper_parameters: tuple[tuple[str, Scalar], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    priority: int = 50
    after: tuple[str, ...] = ()
    max_runtime_ms: int | None = None
    max_retries: int = 0
    grace_ms: int = 30_000
    outputs: tuple[str, ...] = ()
    start_from: str | None = None
    launch: str = "learner"
    python: str | None = None
    warm: str = "auto"
    network: bool = True
    shm_mib: int | None = None
    pull: str = "missing"
    registry: str | None = None
    start_after_ms: int | None = None
    idle_after_ms: int | None = None
    idle_then: str = ""


@dataclass(frozen=True, slots=True)
class RunSpec:
    """All that is common to the runs of one submission. Holds no secret."""

    name: str
    command: str
    request: ResourceRequest
    data: tuple[Location, ...]
    results: Location
    framework: Framework = Framework()
    metrics: EvaluationMetrics = EvaluationMetrics()
    options: Options = Options()
    description: str = ""
    author: str = ""
    email: str = ""
    dialect: str = "service"
