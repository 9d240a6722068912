"""What both dialects come to, before the secrets are split off."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from runyard.core.errors import Refused
from runyard.core.frameworks import CUSTOM
from runyard.core.images import read_image
from runyard.core.spec import EvaluationMetrics, Framework, Options, ResourceRequest
from runyard.manifest.findings import Place
from runyard.manifest.kinds import Text
from runyard.manifest.stores import Reference
from runyard.manifest.tables import Key, Opened

MAX_COMMAND: Final = 100_000
"""Characters of a command: Linux takes 128 KiB as one argument."""

COMMAND_TEXT: Final = Text(re.compile(r"\s*\S.*", re.S), "The command is empty.", MAX_COMMAND)
DESCRIPTION_TEXT: Final = Text(None, limit=10_000)
UNTITLED: Final = "untitled"


@dataclass(frozen=True, slots=True)
class Draft:
    """A run specification whose references still hold their secrets. ``places`` are those of what may be replaced."""

    dialect: str
    name: str
    command: str
    request: ResourceRequest
    data: tuple[tuple[Reference, Place], ...]
    results: Reference
    framework: Framework
    options: Options
    metrics: EvaluationMetrics
    description: str = ""
    author: str = ""
    email: str = ""


def framework_at(opened: Opened, name: Key[str], version: Key[str], python: str = "") -> Framework:
    """The framework of a table; with `custom`, whose version is a container image, an image that can be one."""
    if opened[name] == CUSTOM:
        _check_image(opened, version)
    return Framework(opened[name], opened[version], python)


def _check_image(opened: Opened, version: Key[str]) -> None:
    if not opened[version]:
        if version not in opened:
            opened.at(version).say("This key is missing: with `custom` it is a container image.")
        return
    try:
        read_image(opened[version])
    except Refused as error:
        opened.at(version).say(error.message)


def distinct_names(data: tuple[tuple[Reference, Place], ...]) -> None:
    """Report data references whose ``DATA_DIR_<name>`` would be the same variable."""
    seen: set[str] = set()
    for reference, place in data if len(data) > 1 else ():
        name = "".join(letter if letter.isalnum() else "_" for letter in reference.location.name).upper()
        if name in seen:
            place.say("Another data reference has this name: name them apart, for each has its own DATA_DIR_<name>.")
        seen.add(name)
