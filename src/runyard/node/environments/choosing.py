"""From what a stage order asks for to the interpreter of its programs: the node's own, one that exists, one that is
built, and a layer above it for the model definition's ``requirements.txt``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from runyard.core.frameworks import DISTRIBUTIONS
from runyard.core.reasons import Reason
from runyard.node.cache import Cache
from runyard.node.environments.building import Building
from runyard.node.environments.existing import find_existing
from runyard.node.environments.faults import EnvironmentFault
from runyard.node.environments.installed import installed, missing, versions
from runyard.node.environments.interpreter import RECORDER, Interpreter
from runyard.node.environments.pip import Phase, Pip, PipSettings
from runyard.node.environments.requirements import NAME, read_requirements
from runyard.node.evidence import Evidence
from runyard.wire.orders import Environment

DISTRIBUTION = "runyard"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The interpreter of a spec's programs; None: the node's own. ``entries``: folders of the cache that must stay for
    it; ``size``: bytes that were built just now; ``description``: a JSON object for the record; ``image``: id of the
    container image that they run in, empty for none."""

    interpreter: Interpreter | None
    entries: tuple[str, ...]
    size: int
    description: str
    image: str = ""


class Images(Protocol):
    """The images of the machine's container engine."""

    def ready(self, asked: Environment, evidence: Evidence, phase: Phase) -> tuple[str, str, int]:
        """Have an image: its full name, its id, the bytes fetched. Raises :class:`EnvironmentFault`."""
        ...

    def has(self, image: str) -> bool:
        """Whether an image is there, by its id."""
        ...


NO_IMAGES = "This machine has no container engine any more: see `runyard doctor` there."


class Environments:
    """Makes environments ready on one machine. ``images``: of its container engine, None where it has none."""

    def __init__(
        self,
        cache: Cache,
        root: str,
        own: Interpreter,
        settings: PipSettings,
        images: Callable[[], Images | None] = lambda: None,
    ) -> None:
        self.images = images
        self._root = root
        self._settings = settings
        self.own = own
        self.building = Building(cache, Pip(cache, root, settings), settings, own)

    def frameworks(self) -> dict[str, str]:
        """The frameworks in the node's own interpreter, with their versions."""
        there = installed(self.own.sites)
        return {name: there[name].version for name in DISTRIBUTIONS if name in there}

    def choose(self, asked: Environment, code: str | None, evidence: Evidence, phase: Phase) -> Chosen:
        """Make ready what is asked for. ``code``: the folder of the model definition.

        Raises :class:`EnvironmentFault`, or ``OSError`` for the node's own disk.
        """
        if asked.image:
            return self._image(asked, code, evidence, phase)
        if asked.python is not None:
            return self._existing(asked.python, code, evidence)
        pins = _parse(asked.packages)
        base, entries, size = self._base(asked.packages, pins, evidence, phase)
        wanted = read_requirements(f"{code}/{NAME}") if code is not None else None
        for note in wanted.notes if wanted is not None else ():
            evidence.note(note)
        if wanted is None or not wanted.wanted:
            return self._chosen(base, entries, size, evidence)
        lacking = missing(wanted.wanted, installed(base.sites))
        if not lacking:
            evidence.note(f"Everything that {NAME} asks for is there.")
            return self._chosen(base, entries, size, evidence)
        evidence.note(f"{NAME} asks for what is not there: {', '.join(str(each) for each in lacking)}.")
        layer = self.building.layer(base, self._frozen(base, pins), wanted, evidence, phase)
        return self._chosen(layer.interpreter, (*entries, layer.entry), size + layer.size, evidence)

    def _image(self, asked: Environment, code: str | None, evidence: Evidence, phase: Phase) -> Chosen:
        images = self.images()
        if images is None:
            raise EnvironmentFault(NO_IMAGES, Reason.staging_failed)
        name, image, fetched = images.ready(asked, evidence, phase)
        if code is not None and os.path.exists(f"{code}/{NAME}"):
            evidence.note(f"{NAME} is left alone: an image is what it is, so what it asks for belongs into the image.")
        told = {"image": name, "image_id": image}
        return Chosen(None, (), fetched, msgspec.json.encode(told).decode(), image)

    def _existing(self, python: str, code: str | None, evidence: Evidence) -> Chosen:
        found = find_existing(python, self._settings.pythons, self._root)
        if code is not None and (wanted := read_requirements(f"{code}/{NAME}")) is not None:
            lacking = missing(wanted.wanted, installed(found.sites))
            if lacking:
                names = ", ".join(str(each) for each in lacking)
                evidence.note(
                    f"{NAME} asks for {names}, which {found.executable} does not have: "
                    "nothing is installed into an environment that is not ours."
                )
        return self._chosen(found, (), 0, evidence)

    def _base(
        self, packages: Sequence[str], pins: Sequence[Requirement], evidence: Evidence, phase: Phase
    ) -> tuple[Interpreter, tuple[str, ...], int]:
        """The node's own interpreter where it has all pins, else an environment with them."""
        there = installed(self.own.sites)
        if not missing(pins, there):
            records = tuple(there[canonicalize_name(pin.name)].record for pin in pins)
            return msgspec.structs.replace(self.own, relies_on=records), (), 0
        built = self.building.pinned(packages, evidence, phase)
        return built.interpreter, (built.entry,), built.size

    def _frozen(self, base: Interpreter, pins: Sequence[Requirement]) -> list[str]:
        """The framework as it is in the base, exactly: a layer must not bring another one."""
        there = installed(base.sites)
        names = [canonicalize_name(pin.name) for pin in pins]
        return [f"{name}=={there[name].version.partition('+')[0]}" for name in names if name in there]

    def _chosen(self, found: Interpreter, entries: tuple[str, ...], size: int, evidence: Evidence) -> Chosen:
        packages = versions(installed(found.sites))
        if DISTRIBUTION not in packages:
            found = msgspec.structs.replace(found, search=(RECORDER,), visible=(*found.visible, RECORDER))
        evidence.note(f"Programs run under {found.executable}, Python {found.python}, with {len(packages)} packages.")
        told = {"interpreter": found.executable, "python": found.python, "packages": packages}
        is_own = found.executable == self.own.executable and not found.relies_on and not found.search
        return Chosen(None if is_own else found, entries, size, msgspec.json.encode(told).decode())


def _parse(packages: Sequence[str]) -> list[Requirement]:
    try:
        return [Requirement(package) for package in packages]
    except InvalidRequirement as error:
        raise EnvironmentFault(f"The pins {', '.join(packages)} cannot be read: {error}") from None
