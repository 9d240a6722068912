"""What a manifest asks of other things of the account and of the machines: runs to wait for and to start from, secrets,
and what only some machines can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from runyard.core.errors import Refused, StoreUnavailable
from runyard.core.frameworks import CUSTOM
from runyard.core.resources import Resources
from runyard.core.run import Run, StateName
from runyard.core.spec import Location, RunSpec, StoreKind
from runyard.engine.orders import credentials_for, open_credentials
from runyard.engine.world import World
from runyard.ports.objects import Checked, Verdict
from runyard.ports.store import Node

CHECKPOINTS: Final = "checkpoints/manifest.json"
"""What the node writes last, below ``<id>/`` in the results bucket, once checkpoints are there."""
MOST_PAIRS: Final = 200_000

SHM: Final = "shm"
NETWORK_OFF: Final = "network_off"
CONTAINER: Final = "container"
_ASKED: Final[Mapping[str, str]] = {
    SHM: "a /dev/shm of its own (`runyard.shm`)",
    NETWORK_OFF: "a program without network (`runyard.network: off`)",
}
_NEEDS: Final = "the node must run as root, with leave to make namespaces"
_NO_ENGINE: Final = (
    "No machine can run containers (`framework: custom`): none has a Podman or Docker that answers. On one of them, "
    "`apt-get install podman`, or start the Docker daemon; `runyard doctor` says what it finds. Else name a framework."
)


def check(world: World, account_id: str, spec: RunSpec, runs: int) -> tuple[str, ...]:
    """Refuse what cannot be; returns the runs that are still to be waited for."""
    _check_network(spec)
    registry = spec.options.registry
    _check_secrets(world, account_id, (*spec.options.secrets, *([registry] if registry else [])))
    origin(world, account_id, spec.options.start_from)
    return _still_awaited(world, account_id, spec.options.after, runs)


def _check_network(spec: RunSpec) -> None:
    learners, options = spec.request.learners, spec.options
    if learners > 1 and not options.network:
        raise Refused(
            f"The {learners} learners of a run find each other through the network: "
            "take out `network: off`, or ask for one learner."
        )


def _check_secrets(world: World, account_id: str, names: tuple[str, ...]) -> None:
    missing = [name for name in names if world.store.secret(account_id, name) is None]
    if missing:
        these = "is no secret" if len(missing) == 1 else "are no secrets"
        commands = " and ".join(f"`runyard secrets add {name}`" for name in missing)
        raise Refused(f"There {these} {', '.join(missing)}: {commands}, then submit again.")


def origin(world: World, account_id: str, run_id: str | None) -> Run | None:
    """The run to start from, None where none is named. Raises :class:`Refused` when it is not there."""
    if run_id is None:
        return None
    run = world.store.run(run_id)
    if run is None or run.account_id != account_id:
        raise Refused(
            f"There is no training run {run_id} to start from (`start_from`): `runyard list` shows those there are."
        )
    return run


def check_origin(world: World, run: Run) -> tuple[str, Location, Checked]:
    """Ask the object store whether a run has left checkpoints to start from."""
    stored = world.specs.get(run.spec_id)
    location = stored.spec.results
    what = f"checkpoints of {run.id} (start_from)"
    if location.kind is StoreKind.volume:
        return what, location, Checked(Verdict.ok)  # only the machine itself can look
    credentials = credentials_for(open_credentials(world, stored), location)
    try:
        found = world.objects.read(location, credentials, f"{run.id}/{CHECKPOINTS}", account_id=run.account_id)
    except StoreUnavailable as error:
        denied = error.code == "store_denied"
        return what, location, Checked(Verdict.denied if denied else Verdict.unreachable, error.message)
    if found is None:
        text = f"{run.id} has left none in the bucket {location.bucket}: they come there from its CHECKPOINT_DIR."
        return what, location, Checked(Verdict.not_found, text)
    _size, pieces = found
    for _ in pieces:
        pass  # to its end: an answer that is left half read keeps its connection
    return what, location, Checked(Verdict.ok)


def _still_awaited(world: World, account_id: str, ids: tuple[str, ...], runs: int) -> tuple[str, ...]:
    if len(ids) * runs > MOST_PAIRS:
        raise Refused(
            f"{runs} runs that wait for {len(ids)} others are too many (`after`): "
            "let one run wait for those, and these for that one."
        )
    found = {run.id: run for run in world.store.runs_of(ids) if run.account_id == account_id}
    for run_id in ids:
        if run_id not in found:
            raise Refused(
                f"There is no training run {run_id} to wait for (`after`): `runyard list` shows those that there are."
            )
        state = found[run_id].state_name
        if state in (StateName.failed, StateName.canceled):
            words = "has failed" if state is StateName.failed else "was canceled"
            raise Refused(f"{run_id} (`after`) {words}, so it will never complete: leave it out, or name another run.")
    return tuple(run_id for run_id in ids if found[run_id].state_name is not StateName.completed)


def needed(spec: RunSpec) -> frozenset[str]:
    """The features that a machine must have for a run."""
    if spec.framework.name == CUSTOM:
        return frozenset([CONTAINER])  # its engine gives the rest
    asked = {SHM: spec.options.shm_mib is not None, NETWORK_OFF: not spec.options.network}
    return frozenset(name for name, yes in asked.items() if yes)


def taking(nodes: Sequence[Node], spec: RunSpec, resources: Resources) -> list[Node]:
    """The connected machines that can take runs of this size and with these wishes."""
    features = needed(spec)
    return [
        node for node in nodes if node.connected and resources.fits_in(node.total) and features <= set(node.features)
    ]


def able(nodes: Sequence[Node], spec: RunSpec) -> Sequence[Node]:
    """The machines that have what a run needs. Raises :class:`Refused` when there are machines and none has."""
    features = needed(spec)
    found = [node for node in nodes if features <= set(node.features)]
    if nodes and not found and CONTAINER in features:
        raise Refused(_NO_ENGINE)
    if nodes and not found:
        missing = [name for name in _ASKED if name in features and not any(name in node.features for node in nodes)]
        words = " and ".join(_ASKED[name] for name in missing or sorted(features))
        raise Refused(f"No machine can give {words}: {_NEEDS}. Take it out of the manifest to submit the rest.")
    return found
