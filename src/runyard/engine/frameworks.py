"""Frameworks: what a submission's environment must offer, and what the account has registered."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from runyard.core import frameworks
from runyard.core.errors import NotFound, Refused
from runyard.core.frameworks import KNOWN, PYTHON, Asked, Machine, Registered, Resolution
from runyard.core.images import PULLS
from runyard.core.spec import RunSpec
from runyard.engine.world import World
from runyard.ports.environments import FrameworkRecord, SpecFacts
from runyard.ports.store import Node, StoredSpec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


def resolve(world: World, account_id: str, spec: RunSpec) -> Resolution:
    """The environment of a submission. Asks the package index where it must, outside of any transaction.

    Raises :class:`Refused` with a sentence that leads to a running job.
    """
    options = spec.options
    asks = (spec.framework.name, spec.framework.python, options.python, options.registry)
    if not any(asks) and options.pull == PULLS[0]:
        return Resolution(frameworks.OWN_ENVIRONMENT)
    asked = Asked(
        spec.framework, options.python, registered(world, account_id), machines(world), options.pull, options.registry
    )
    told: dict[str, Sequence[str] | None] = {}
    while True:
        answer = frameworks.resolve(asked, told)
        if isinstance(answer, Resolution):
            return answer
        told[answer.distribution] = world.catalog.versions(answer.distribution)


def check_image(spec: RunSpec) -> None:
    """Refuse a container image that cannot be one, before machines are looked for. Raises :class:`Refused`."""
    if spec.framework.name == frameworks.CUSTOM:
        frameworks.resolve(Asked(spec.framework, spec.options.python))


def registered(world: World, account_id: str) -> tuple[Registered, ...]:
    """What an account has registered, as the decision wants it."""
    return tuple(
        Registered(each.name, each.version, each.python, each.instead) for each in world.store.frameworks(account_id)
    )


def machines(world: World) -> tuple[Machine, ...]:
    """The connected machines; all that are known where none is connected."""
    nodes = world.store.nodes()
    there = [node for node in nodes if node.connected] or nodes
    return tuple(Machine(node.python, node.packages, has_device(node)) for node in there)


def has_device(node: Node) -> bool:
    """Whether there is a real GPU behind a machine's slots."""
    return node.total.gpus > 0 and not node.logical


def environment_of(spec: StoredSpec, facts: SpecFacts) -> dict[str, object]:
    """What a spec asks of its environment, and what that is, once it is ready."""
    asked = spec.environment
    found: dict[str, object] = json.loads(facts.environment) if facts.environment else {}
    wanted: dict[str, object] = {"python": asked.python, "packages": list(asked.packages)}
    if asked.image:
        wanted["image"] = asked.image
    return {"asked": wanted, **found}


@dataclass(frozen=True, slots=True)
class FrameworkView:
    """A framework known by name. ``installed``: versions in the machines' own interpreters (distribution, version)."""

    name: str
    distribution: str
    aliases: tuple[str, ...]
    installed: tuple[str, ...]


def known(world: World) -> tuple[FrameworkView, ...]:
    """The frameworks that need no registration, and where they are at hand already."""
    there = machines(world)
    found = [
        FrameworkView(
            name,
            each.distribution,
            _aliases(name),
            _installed(there, (each.distribution, *each.also)),
        )
        for name, each in KNOWN.items()
    ]
    pythons = tuple(sorted({machine.python for machine in there if machine.python}))
    return (*found, FrameworkView(PYTHON, "", _aliases(PYTHON), pythons))


def _aliases(name: str) -> tuple[str, ...]:
    return tuple(alias for alias, of in frameworks.ALIASES.items() if of == name)


def _installed(there: Sequence[Machine], distributions: Sequence[str]) -> tuple[str, ...]:
    found = {machine.packages[each] for machine in there for each in distributions if each in machine.packages}
    return tuple(sorted(found))


def versions(world: World, name: str) -> tuple[str, ...] | None:
    """The versions of a known framework that the package index has, newest first; None when it cannot be asked.

    Raises :class:`NotFound` for a name that is not known.
    """
    plain = frameworks.canonical(name)
    if plain not in KNOWN:
        raise NotFound(f"There is no framework {name} with versions to list: there are {', '.join(KNOWN)}.")
    return world.catalog.versions(KNOWN[plain].distribution)


def register(world: World, record: FrameworkRecord) -> None:
    """Keep a registration, in the place of an older one. Raises :class:`Refused` for one that could never serve."""
    if _NAME.fullmatch(record.name) is None or (record.version and _VERSION.fullmatch(record.version) is None):
        raise Refused(
            "A framework is registered as NAME or NAME:VERSION, of letters, digits, dots, dashes and underscores.",
            code="invalid_request",
        )
    if record.name.lower() == "custom":
        raise Refused("`custom` means a container image, and cannot be registered.", code="invalid_request")
    if (record.python is None) == (record.instead is None):
        raise Refused(
            "A registration has either `python` (an existing environment) or `instead` (another framework).",
            code="invalid_request",
        )
    target = frameworks.split(record.instead) if record.instead is not None else None
    if target is not None and not target.name:
        raise Refused("`instead` is another framework, as NAME:VERSION.", code="invalid_request")
    world.store.put_framework(record)


def forget(world: World, account_id: str, name: str, version: str) -> None:
    """Forget a registration. Raises :class:`NotFound`."""
    if not world.store.delete_framework(account_id, name, version):
        words = f"{name}:{version}" if version else name
        raise NotFound(f"No framework {words} is registered: `runyard frameworks list` shows those that are.")
