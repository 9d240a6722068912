"""From a run's state to what its node is asked to do: requests built from the record, secrets opened last."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from runyard.core.command import fill
from runyard.core.frameworks import preload_of
from runyard.core.idle import rule_of
from runyard.core.lifecycle import Command, Transition, is_granted, sentence_of
from runyard.core.reasons import Reason
from runyard.core.run import GRANT, Attempt, Run, Starting, Stopping, Waiting
from runyard.core.scheduling.ahead import HOLD_MS
from runyard.core.spec import Credentials, Location, Scalar
from runyard.engine.world import World
from runyard.ports.executor import LaunchRequest, Origin, StageRequest, StoreRequest, Warm
from runyard.ports.logs import LogKey
from runyard.ports.store import StoredSpec

_EVIDENCE_LIMIT = 64 * 1024


class CannotLaunch(Exception):
    """What an attempt needs is not there any more, and trying again would not bring it back."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def vault_context(account_id: str) -> str:
    """The context under which a spec's credentials are sealed."""
    return f"spec/{account_id}"


def seal_credentials(world: World, account_id: str, secrets: Mapping[str, Credentials]) -> bytes | None:
    """Seal the credentials that were split off a manifest; None when there are none."""
    if not secrets:
        return None
    plain = {key: [value.access_key_id, value.secret_access_key, value.session_token] for key, value in secrets.items()}
    return world.vault.seal(json.dumps(plain).encode(), vault_context(account_id))


def open_credentials(world: World, spec: StoredSpec) -> Mapping[str, Credentials]:
    """Open what :func:`seal_credentials` sealed."""
    sealed = spec.sealed
    if sealed is None:
        return {}

    def opened() -> Mapping[str, Credentials]:
        plain = json.loads(world.vault.open(sealed, vault_context(spec.account_id)))
        return {key: Credentials(*value) for key, value in plain.items()}

    return world.specs.credentials(spec, opened)


def credentials_for(secrets: Mapping[str, Credentials], location: Location) -> Credentials | None:
    """The credentials of one location, None for stores without any."""
    return secrets.get(location.connection.secret) if location.connection.secret is not None else None


def secret_context(account_id: str, name: str) -> str:
    """The context under which a stored secret is sealed."""
    return f"secret/{account_id}/{name}"


def open_secrets(world: World, account_id: str, names: Sequence[str]) -> dict[str, str]:
    """The values of stored secrets by name; those that are not stored are left out."""
    found = ((name, world.store.secret(account_id, name)) for name in names)
    return {
        name: world.vault.open(record.sealed, secret_context(account_id, name)).decode()
        for name, record in found
        if record is not None
    }


def _secret_env(world: World, run: Run, names: Sequence[str]) -> dict[str, str]:
    values = open_secrets(world, run.account_id, names)
    missing = [name for name in names if name not in values]
    if missing and _is_to_start(run):  # a program that runs has them
        raise CannotLaunch(Reason.secret_missing, f"Not stored: {', '.join(missing)}.")
    return values


def _origin(world: World, run: Run, origin_id: str | None) -> Origin | None:
    if origin_id is None:
        return None
    origin = world.store.run(origin_id)
    if origin is None or origin.account_id != run.account_id:
        if _is_to_start(run):
            raise CannotLaunch(Reason.start_from_missing, f"The record of {origin_id} was deleted.")
        return None
    stored = world.specs.get(origin.spec_id)
    location = stored.spec.results
    return Origin(origin.id, location, credentials_for(open_credentials(world, stored), location))


def parameters_of(run: Run) -> dict[str, Scalar]:
    """The hyper-parameters of a run."""
    return json.loads(run.parameters)


def command_of(run: Run, spec: StoredSpec) -> str:
    """The command of a run, its placeholders filled."""
    return fill(spec.spec.command, parameters_of(run), append_args=spec.append_args)


def launch_request(world: World, run: Run, stage: StageRequest) -> LaunchRequest:
    """What a node needs to start the latest attempt of a run, or the next one of a run that was granted ahead. Raises
    :class:`CannotLaunch`."""
    spec = world.specs.get(run.spec_id)
    attempt = _next_attempt(run)
    member = world.specs.member(run.member_id)
    if attempt is None or member is None:
        raise ValueError(f"{run.id} has no attempt or no member to launch for")
    secrets = open_credentials(world, spec)
    options = spec.spec.options
    learners = spec.spec.request.learners
    return LaunchRequest(
        node_id=attempt.node_id,
        run_id=run.id,
        attempt=attempt.number,
        name=run.name,
        command=command_of(run, spec),
        parameters=run.parameters,
        env=dict(options.env),
        secret_env=_secret_env(world, run, options.secrets),
        member_number=member.number,
        gpus=run.resources.gpus // learners,
        slots=attempt.slots,
        cpu_millis=run.resources.cpu_millis // learners,
        memory_mib=run.resources.memory_mib // learners,
        max_runtime_ms=options.max_runtime_ms,
        grace_ms=options.grace_ms,
        outputs=options.outputs,
        stage=stage,
        results=spec.spec.results,
        account_id=run.account_id,
        results_credentials=credentials_for(secrets, spec.spec.results),
        learners=learners,
        launch=options.launch,
        start_from=_origin(world, run, options.start_from),
        shm_mib=options.shm_mib,
        network=options.network,
        evaluation=spec.spec.metrics,
        queue_class=run.class_id,
        hold_ms=HOLD_MS if is_granted(run) else 0,
        until_ms=(world.ahead.until_ms(attempt.node_id) or 0) if is_granted(run) else 0,
        login=member.id,
        idle_ms=rule_of(options, world.rules.idle).after_ms,
    )


def _next_attempt(run: Run) -> Attempt | None:
    if isinstance(run.state, Waiting) and run.state.granted_to is not None:
        return Attempt(len(run.attempts) + 1, run.state.granted_to, (), 0)
    return run.attempt


def _is_to_start(run: Run) -> bool:
    return isinstance(run.state, Starting) or is_granted(run)


def known_stage(world: World, run: Run, node_id: str) -> StageRequest:
    """The stage of a launch on a node that has the spec ready: nothing is listed again."""
    spec = world.specs.get(run.spec_id)
    warm = warm_of(world, run, spec)
    return StageRequest(node_id, run.spec_id, run.account_id, spec.code_sha256, (), False, spec.environment, warm)


def warm_of(world: World, run: Run, spec: StoredSpec) -> Warm | None:
    """Which warm parent may fork the program of a run; None where the manifest says ``warm: off``,
    and for one in a container."""
    member = world.specs.member(run.member_id)
    if spec.spec.options.warm == "off" or member is None or spec.environment.image:
        return None
    return Warm(run.account_id, member.number, preload_of(spec.spec.framework.name), member.id)


def store_request(world: World, run: Run) -> StoreRequest | None:
    """What a node needs to store a run's results; None when no node had ever anything to do with it."""
    spec = world.specs.get(run.spec_id)
    attempt = run.attempt
    node_id = attempt.node_id if attempt is not None else run.ready_on or any_node(world)
    if node_id is None:
        return None
    ordered = [a.number for a in run.attempts if a.node_id == node_id and not _never_ordered(a)]
    number = ordered[-1] if ordered else 0
    member = world.specs.member(run.member_id)
    evidence = b""
    if attempt is None:
        evidence = world.logs.read(LogKey(run.id, 0, stream="load-data"), 0, _EVIDENCE_LIMIT)
    elif number == 0 and attempt.ending is not None:
        evidence = f"{sentence_of(attempt.ending)}\n".encode()
    return StoreRequest(
        node_id=node_id,
        run_id=run.id,
        spec_id=run.spec_id,
        attempt=number,
        earlier_attempts=tuple(ordered[:-1]),
        outputs=spec.spec.options.outputs,
        results=spec.spec.results,
        account_id=run.account_id,
        credentials=credentials_for(open_credentials(world, spec), spec.spec.results),
        evidence=evidence.decode("utf-8", "replace"),
        learners=spec.spec.request.learners,
        member_number=0 if member is None else member.number,
        login=run.member_id,
    )


def _never_ordered(attempt: Attempt) -> bool:
    """Whether the server itself gave an attempt up, or it was but a grant: its node has no folder of it."""
    if attempt.way == GRANT:
        return True
    ending = attempt.ending
    if ending is None or attempt.started_ms is not None or attempt.log_bytes is not None:
        return False
    return ending.reason in (Reason.launch_failed, Reason.secret_missing, Reason.start_from_missing)


def any_node(world: World) -> str | None:
    """A connected node, the first by id; None when none is."""
    return min((node.id for node in world.store.nodes() if node.connected), default=None)


def direct(world: World, transition: Transition) -> None:
    """Give the orders that a transition calls for. Those that a node misses are given again when it connects."""
    with world.orders:
        for command in transition.commands:
            _give(world, command, transition.after)


def _give(world: World, command: Command, run: Run) -> None:
    node_id = run.attempt.node_id if run.attempt is not None else run.ready_on
    if command is Command.grant:
        node_id = run.ready_on
    if command is Command.store:
        request = store_request(world, run)
        if request is not None:
            world.executor.store(request)
    elif node_id is None:
        return
    elif command in (Command.launch, Command.grant):
        world.executor.launch(launch_request(world, run, known_stage(world, run, node_id)))
    elif command is Command.stop:
        give_stop(world, run)
    elif command is Command.stop_storing:
        world.executor.stop_storing(node_id, run.id)
    elif command is Command.release:
        world.executor.release(node_id, run.id)


def give_stop(world: World, run: Run) -> None:
    """Ask a run's node to end its program."""
    state, attempt = run.state, run.attempt
    if isinstance(state, Stopping) and attempt is not None:
        grace = world.specs.get(run.spec_id).spec.options.grace_ms
        world.executor.stop(attempt.node_id, run.id, attempt.number, state.cause, grace)
