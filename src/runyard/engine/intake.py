"""Intake: from a manifest's text to accepted runs, all of them or none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from runyard.core.account import Principal
from runyard.core.command import Filling, identical_runs_refusal
from runyard.core.errors import NotFound, Refused, StoreUnavailable
from runyard.core.ids import run_id
from runyard.core.resources import Fitted, Resources, fit
from runyard.core.spec import Credentials, EnvironmentRequest, Location, RunSpec, Scalar
from runyard.engine import after, frameworks, known, leases, quotas, room, wishes
from runyard.engine.orders import credentials_for, seal_credentials
from runyard.engine.world import World
from runyard.manifest import Overrides, Parsed, parse
from runyard.ports.objects import Checked, Verdict
from runyard.ports.store import Submission

_ID_BITS = 64
_encode = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks to have trained. ``digest``: of the request's body, for idempotency."""

    manifest: str
    definition: str | None = None
    parameters: Sequence[Mapping[str, Scalar]] = ()
    append_args: bool = False
    force: bool = False
    overrides: Overrides = field(default_factory=Overrides)
    provenance: Mapping[str, object] = field(default_factory=dict[str, object])
    idempotency_key: str | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Ids in the order of the parameters; ``replayed``: they were accepted earlier, under the same key."""

    ids: tuple[str, ...]
    replayed: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoreCheck:
    """What an object store said about one location."""

    what: str
    location: Location
    checked: Checked


@dataclass(frozen=True, slots=True)
class Checklist:
    """A submission examined and not yet accepted."""

    spec: RunSpec
    secrets: Mapping[str, Credentials] = field(repr=False)
    resources: Resources
    parameters: tuple[str, ...]
    notes: tuple[str, ...]
    checks: tuple[StoreCheck, ...]
    environment: EnvironmentRequest
    after: tuple[str, ...] = ()


def submit(world: World, who: Principal, request: Request) -> Accepted:
    """Accept a request. Raises an error of :mod:`runyard.core.errors` and leaves nothing behind, or accepts it all."""
    if request.idempotency_key is not None:
        earlier = world.store.replay(who.account_id, request.idempotency_key, request.digest)
        if earlier is not None:
            return Accepted(earlier, True, ())
    room.refuse_when_full(world)
    examined = examine(world, who, request)
    if not request.force:
        _insist(examined.checks)
    submission = Submission(
        account_id=who.account_id,
        member_id=who.member_id,
        spec=examined.spec,
        resources=examined.resources,
        # In ascending order: a database adds to its index of ids in one sweep, however deep the queue is.
        ids=tuple(sorted(run_id(world.entropy.bits(_ID_BITS)) for _ in examined.parameters)),
        names=(examined.spec.name,) * len(examined.parameters),
        parameters=examined.parameters,
        now_ms=world.clock.now_ms(),
        code_sha256=request.definition,
        sealed=seal_credentials(world, who.account_id, examined.secrets),
        append_args=request.append_args,
        notes=examined.notes,
        provenance=request.provenance,
        idempotency_key=request.idempotency_key,
        request_digest=request.digest,
        environment=examined.environment,
        after=examined.after,
    )
    ids, replayed = known.accept(world, submission)
    if examined.after and not replayed and after.any_ended(world, examined.after):
        after.look_at(world, ids)  # it ended between the check and the commit: nobody else looks at these
    return Accepted(ids, replayed, examined.notes)


def examine(world: World, who: Principal, request: Request) -> Checklist:
    """Parse, resolve, fit and check a request without accepting it."""
    parsed = parse(request.manifest, configurations=world.rules.configurations, overrides=request.overrides)
    _hold(world, parsed.spec, request.definition)
    parsed = resolve_connections(world, who.account_id, parsed)
    frameworks.check_image(parsed.spec)
    fitted = fit_somewhere(world, parsed.spec)
    _check_code(world, who.account_id, request, parsed.spec)
    resolution = frameworks.resolve(world, who.account_id, parsed.spec)
    parameters = _parameters(world, parsed.spec, request)
    awaited = wishes.check(world, who.account_id, parsed.spec, len(parameters))
    return Checklist(
        spec=parsed.spec,
        secrets=parsed.secrets,
        resources=fitted.resources,
        parameters=parameters,
        notes=(*parsed.notes, *fitted.notes, *resolution.notes, *_of_budget(world, who.account_id)),
        checks=(
            *check_stores(world, who.account_id, parsed.spec, parsed.secrets),
            *_check_origin(world, who.account_id, parsed.spec, awaited),
        ),
        environment=resolution.environment,
        after=awaited,
    )


def _hold(world: World, spec: RunSpec, definition: str | None) -> None:
    """What this submission needs stays until it is recorded that it does."""
    runs = {*spec.options.after, *([spec.options.start_from] if spec.options.start_from else [])}
    names = [leases.of_run(run_id) for run_id in runs]
    world.leases.hold(*names, *([leases.of_definition(definition)] if definition else []))


def _of_budget(world: World, account_id: str) -> tuple[str, ...]:
    told = quotas.warning(world, account_id)
    return () if told is None else (told,)


def _check_origin(world: World, account_id: str, spec: RunSpec, awaited: Sequence[str]) -> tuple[StoreCheck, ...]:
    """Whether there are checkpoints to start from; of a run that is waited for first there need be none yet."""
    origin = wishes.origin(world, account_id, spec.options.start_from)
    if origin is None or origin.id in awaited:
        return ()
    return (StoreCheck(*wishes.check_origin(world, origin)),)


def resolve_connections(world: World, account_id: str, parsed: Parsed) -> Parsed:
    """Put stored connections in the place of their names."""
    secrets = dict(parsed.secrets)

    def resolve(location: Location) -> Location:
        name = location.connection.named
        if name is None:
            return location
        record = world.store.connection(account_id, name)
        if record is None:
            raise NotFound(f"There is no connection {name!r}: `runyard connections list` shows those that there are.")
        if record.kind is not location.kind:
            raise Refused(
                f"The connection {name!r} is of type {record.kind.value}, the reference of type {location.kind.value}: "
                "name another one, or correct `type`."
            )
        if record.sealed is None:
            return replace(location, connection=record.connection)
        key = f"connection/{name}"
        plain = json.loads(world.vault.open(record.sealed, connection_context(account_id, name)))
        secrets[key] = Credentials(*plain)
        return replace(location, connection=replace(record.connection, secret=key))

    spec = replace(
        parsed.spec,
        data=tuple(resolve(location) for location in parsed.spec.data),
        results=resolve(parsed.spec.results),
    )
    return replace(parsed, spec=spec, secrets=secrets)


def connection_context(account_id: str, name: str) -> str:
    """The context under which a stored connection's credentials are sealed."""
    return f"connection/{account_id}/{name}"


def fit_somewhere(world: World, spec: RunSpec) -> Fitted:
    """Fit the request to the machine that needs the least scaling, to one that is away only where no connected one can
    take it. Raises :class:`Refused` when none can."""
    nodes = wishes.able(world.store.nodes(), spec)
    if not nodes:
        raise Refused("No machine has joined yet: wait a moment and submit again, or look at `runyard status`.")
    asked, learners = spec.request.resources, spec.request.learners
    tries = [
        (not node.connected, fit(asked, node.total, logical_gpus=node.logical, learners=learners)) for node in nodes
    ]
    fitting = [(away, fitted) for away, fitted in tries if fitted.refusal is None]
    if not fitting:
        raise Refused(min(fitted.refusal or "" for _, fitted in tries))
    return min(fitting, key=lambda each: (each[0], len(each[1].notes)))[1]


def _check_code(world: World, account_id: str, request: Request, spec: RunSpec) -> None:
    definition = None
    if request.definition is not None:
        definition = world.store.definition(account_id, request.definition)
        if definition is None:
            text = f"The model definition {request.definition[:12]} is not here: upload it first."
            raise NotFound(text)
    refusal = identical_runs_refusal(
        spec.command,
        tuple(request.parameters[0]) if request.parameters else (),
        max(1, len(request.parameters)),
        append_args=request.append_args,
        mentions_config=definition.mentions_config if definition is not None else None,
    )
    if refusal is not None and not request.force:
        raise Refused(refusal)


def _parameters(world: World, spec: RunSpec, request: Request) -> tuple[str, ...]:
    own = dict(spec.options.hyper_parameters)
    if len(request.parameters) > world.rules.most_runs:
        raise Refused(f"{len(request.parameters)} runs are more than the {world.rules.most_runs} of one submission.")
    try:
        filling = Filling(spec.command, append_args=request.append_args)
        return tuple(_as_text(filling, {**own, **each}) for each in (request.parameters or ({},)))
    except ValueError as error:
        raise Refused(f"The command cannot take these hyper-parameters: {error}") from None


def _as_text(filling: Filling, parameters: Mapping[str, Scalar]) -> str:
    filling.check(parameters)
    return _encode(parameters)


def check_stores(
    world: World, account_id: str, spec: RunSpec, secrets: Mapping[str, Credentials]
) -> tuple[StoreCheck, ...]:
    """Ask every object store that the manifest names, all at once."""
    asked = [(f"training data {location.name or index}", location, False) for index, location in enumerate(spec.data)]
    asked.append(("training results", spec.results, True))

    def ask(each: tuple[str, Location, bool]) -> StoreCheck:
        what, location, write = each
        credentials = credentials_for(secrets, location)
        checked = world.objects.check(location, credentials, write=write, account_id=account_id)
        return StoreCheck(what, location, checked)

    with ThreadPoolExecutor(max_workers=min(8, len(asked))) as pool:
        return tuple(pool.map(ask, asked))


def _insist(checks: Sequence[StoreCheck]) -> None:
    bad = [check for check in checks if check.checked.verdict is not Verdict.ok]
    if bad:
        text = "; ".join(f"{check.what}: {check.checked.message}" for check in bad)
        code = {
            Verdict.not_found: "store_not_found",
            Verdict.denied: "store_denied",
            Verdict.unreachable: "store_unreachable",
        }.get(bad[0].checked.verdict, "store_unavailable")
        raise StoreUnavailable(f"{text} (`--force` submits all the same)", code=code)
