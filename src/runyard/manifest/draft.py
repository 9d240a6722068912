"""What both dialects come to, before the secrets are split off."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from runyard.core.spec import EvaluationMetrics, Framework, Options, ResourceRequest
from runyard.manifest.findings import Place
from runyard.manifest.kinds import Text
from runyard.manifest.stores import Reference

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


def distinct_names(data: tuple[tuple[Reference, Place], ...]) -> None:
    """Report data references whose ``DATA_DIR_<name>`` would be the same variable."""
    seen: set[str] = set()
    for reference, place in data if len(data) > 1 else ():
        name = "".join(letter if letter.isalnum() else "_" for letter in reference.location.name).upper()
        if name in seen:
            place.say("Another data reference has this name: name them apart, for each has its own DATA_DIR_<name>.")
        seen.add(name)
