"""Versions of frameworks, as people write them and as package indexes list them (the scheme of PEP 440)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

_ASKED: Final = re.compile(
    r"v?(?P<version>\d+(?:\.\d+)*(?:(?:a|b|rc|\.dev|\.post)\d+)?(?:\+[a-z0-9.]+)?)(?:\.[x*])?(?:[-_][a-z][a-z0-9.]*)*"
)
_ANY: Final = re.compile(r"(?:latest|newest|stable|any|default|\*)?(?:[-_]?(?:py|gpu|cpu)[a-z0-9.]*)*")
_PARTS: Final = re.compile(r"(\d+(?:\.\d+)*)(?:[._-]?(a|b|rc|c))?(\d+)?(?:\.?post(\d+))?(?:\.?(dev)(\d+))?")
_BEFORE: Final = {"dev": -4, "a": -3, "b": -2, "c": -1, "rc": -1}

Key = tuple[tuple[int, ...], int, int, int]


def understood(text: str) -> str | None:
    """The version that somebody means: ``1.5.0-py3``, ``v2.1`` and ``2.x`` are 1.5.0, 2.1 and 2. Empty: any. None: it
    is no version."""
    plain = text.strip().lower()
    if _ANY.fullmatch(plain):
        return ""
    match = _ASKED.fullmatch(plain)
    return match["version"] if match else None


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version; none for what is no version."""
    match = _PARTS.match(version)
    return tuple(int(number) for number in match[1].split(".")) if match else ()


def key(version: str) -> Key:
    """What versions are ordered by: the numbers, then development and pre-releases before the release, then what came
    after it."""
    match = _PARTS.match(version)
    if match is None:
        return (), 0, 0, 0
    numbers = list(release(version))
    while numbers and numbers[-1] == 0:
        numbers.pop()
    phase = _BEFORE["dev"] if match[5] and not match[2] else _BEFORE.get(match[2] or "", 0)
    return tuple(numbers), phase, int(match[3] or 0), int(match[4] or 0)


def sorted_versions(versions: Iterable[str]) -> list[str]:
    """Newest first."""
    return sorted(versions, key=key, reverse=True)


def is_stable(version: str) -> bool:
    """Whether it is neither a pre-release nor a development release."""
    return key(version)[1] == 0


def same(one: str, other: str) -> bool:
    """Whether two texts mean one version."""
    return understood(one) == understood(other)


def newest_match(wanted: str, versions: Sequence[str]) -> str | None:
    """The newest of some versions that is the wanted one or begins with its numbers: ``2.13`` is any 2.13.x.

    A pre-release only where it is named in full.
    """
    if wanted in versions:
        return wanted
    numbers = release(wanted)
    if not is_stable(wanted):
        return None
    fitting = [each for each in versions if is_stable(each) and _begins(release(each), numbers)]
    return max(fitting, key=key, default=None)


def _begins(numbers: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    padded = numbers + (0,) * (len(wanted) - len(numbers))
    return bool(numbers) and padded[: len(wanted)] == wanted


def short(version: str, among: Sequence[str]) -> str:
    """A version as one would write it: major and minor alone, where that leads to it among these."""
    brief = ".".join(version.split(".")[:2])
    return brief if newest_match(brief, among) == version else version
