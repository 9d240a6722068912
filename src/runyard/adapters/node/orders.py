"""Requests of the engine as records of the wire."""

from __future__ import annotations

from runyard.core.spec import Credentials, EvaluationMetrics, Location, StoreKind
from runyard.manifest.metrics import expand_macros
from runyard.ports.executor import DataPart, LaunchRequest, StageRequest, StoreRequest
from runyard.ports.executor import Warm as WarmRequest
from runyard.wire.orders import Environment, Evaluation, Item, Launch, Origin, Part, Place, Secret, Stage, Store, Warm


def place(
    location: Location, account_id: str, credentials: Credentials | None, member: tuple[int, str] = (0, "")
) -> Place:
    """A location with its credentials, as a node reaches it. ``member``: the number and id of whose rights hold in a
    folder of the machine."""
    secret = None
    if credentials is not None:
        secret = Secret(credentials.access_key_id, credentials.secret_access_key, credentials.session_token)
    number, login = member if location.kind is StoreKind.volume else (0, "")
    return Place(
        kind=location.kind.value,
        bucket=location.bucket,
        prefix=location.prefix,
        name=location.name,
        account=account_id,
        endpoint_url=location.connection.endpoint_url,
        region=location.connection.region,
        path=location.connection.path,
        secret=secret,
        member=number,
        login=login,
    )


def _part(part: DataPart, account_id: str) -> Part:
    items = tuple(Item(entry.key, entry.size, entry.etag) for entry in part.entries)
    return Part(place(part.location, account_id, part.credentials), items)


def _environment(request: StageRequest) -> Environment:
    asked = request.environment
    return Environment(asked.python, asked.packages, asked.image, asked.pull, request.registry)


def stage_order(request: StageRequest) -> Stage:
    """What to make ready."""
    return Stage(
        spec=request.spec_id,
        code=request.code_sha256,
        data=tuple(_part(part, request.account_id) for part in request.data),
        listed=request.listed,
        environment=_environment(request),
        warm=_warm(request.warm),
        guessed=request.guessed,
    )


def _warm(warm: WarmRequest | None) -> Warm | None:
    return None if warm is None else Warm(warm.account_id, warm.member_number, warm.preload, warm.login)


def launch_order(request: LaunchRequest) -> Launch:
    """What to start."""
    return Launch(
        run=request.run_id,
        attempt=request.attempt,
        name=request.name,
        command=request.command,
        stage=stage_order(request.stage),
        results=place(request.results, request.account_id, request.results_credentials, _member(request)),
        parameters=request.parameters,
        env=dict(request.env),
        secret_env=dict(request.secret_env),
        member=request.member_number,
        slots=request.slots,
        cpu_millis=request.cpu_millis,
        memory_mib=request.memory_mib,
        max_runtime_ms=request.max_runtime_ms,
        grace_ms=request.grace_ms,
        outputs=request.outputs,
        learners=request.learners,
        launch=request.launch,
        start_from=_origin(request),
        shm_mib=request.shm_mib,
        network=request.network,
        evaluation=_evaluation(request.evaluation),
        queue_class=request.queue_class,
        hold_ms=request.hold_ms,
        until_ms=request.until_ms,
        login=request.login,
        idle_ms=request.idle_ms,
    )


def _member(request: LaunchRequest | StoreRequest) -> tuple[int, str]:
    return request.member_number, request.login


def _evaluation(metrics: EvaluationMetrics) -> Evaluation:
    """What the node needs of it: regular expressions of Python, the manifest's macros written out."""
    groups = tuple((name, expand_macros(regex)) for name, regex in metrics.groups)
    return Evaluation(metrics.type, metrics.source, groups)


def _origin(request: LaunchRequest) -> Origin | None:
    origin = request.start_from
    if origin is None:
        return None
    return Origin(origin.run_id, place(origin.results, request.account_id, origin.credentials, _member(request)))


def store_order(request: StoreRequest) -> Store:
    """What to store."""
    return Store(
        run=request.run_id,
        spec=request.spec_id,
        attempt=request.attempt,
        results=place(request.results, request.account_id, request.credentials, _member(request)),
        earlier=request.earlier_attempts,
        outputs=request.outputs,
        evidence=request.evidence,
        learners=request.learners,
    )
