"""What is installed in folders of packages, read from their records: nothing there is ever executed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PathDistribution
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

_RECORD = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+?)(?:-py\d[^-]*)?\.(?:dist|egg)-info")


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed distribution: its version, and the folder (or file) of its record."""

    version: str
    record: str

    def requires(self) -> list[Requirement]:
        """What it says it needs, its extras included."""
        found: list[Requirement] = []
        for text in PathDistribution(Path(self.record)).requires or ():
            try:
                found.append(Requirement(text))
            except InvalidRequirement:
                continue  # a record of old: pip would have refused it too
        return found


Installed = Mapping[str, Distribution]
"""By the name in its one spelling (lower case, dashes)."""


def installed(sites: Sequence[str]) -> dict[str, Distribution]:
    """The distributions in some folders of packages; of one that is there twice, the first counts."""
    found: dict[str, Distribution] = {}
    for folder in sites:
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue  # a folder that is not there, or not ours to read, holds nothing
        for name in names:
            match = _RECORD.fullmatch(name)
            if match is not None:
                found.setdefault(canonicalize_name(match["name"]), Distribution(match["version"], f"{folder}/{name}"))
    return found


def versions(found: Installed) -> dict[str, str]:
    """Versions by name, in the order of the names."""
    return {name: found[name].version for name in sorted(found)}


def missing(wanted: Iterable[Requirement], found: Installed) -> list[Requirement]:
    """The requirements that are not satisfied there, those for other systems left out. A local version (``+cpu``)
    satisfies its public one."""
    return list(_missing(wanted, found, {""}, set()))


def _missing(
    wanted: Iterable[Requirement], found: Installed, extras: set[str], seen: set[tuple[str, str]]
) -> Iterator[Requirement]:
    for requirement in wanted:
        marker = requirement.marker
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in extras):
            continue
        there = found.get(canonicalize_name(requirement.name))
        if there is None or not _serves(requirement, there.version):
            yield requirement
            continue
        fresh = {extra for extra in requirement.extras if (there.record, extra) not in seen}
        if fresh:
            seen |= {(there.record, extra) for extra in fresh}
            yield from _missing(there.requires(), found, fresh, seen)


def _serves(requirement: Requirement, version: str) -> bool:
    if requirement.url is not None:
        return False
    try:
        return requirement.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return False
