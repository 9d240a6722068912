"""What is wrong with a manifest, told of the options that it came from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from runyard.client.errors import ManifestRefused
from runyard.core.errors import Problem

_FLAGS: Final[Mapping[str, tuple[str, str]]] = {
    "name": ("--name", "name"),
    "gpus": ("--gpus", "gpus"),
    "cpus": ("--cpus", "cpus"),
    "memory": ("--memory", "memory"),
    "framework": ("--framework", "framework"),
    "data_stores": ("--data", "data"),
    "--data": ("--data", "data"),
    "runyard.python": ("--python", "python"),
    "runyard.env": ("--env", "env"),
    "runyard.tags": ("--tag", "tag"),
    "runyard.after": ("--after", "after"),
    "runyard.priority": ("--priority", "priority"),
    "runyard.max_runtime": ("--max-runtime", "max_runtime"),
}
"""Which option writes a key of the manifest (and what is below it), and its name among the options of a call."""
_STEP: Final = re.compile(r"[.\[]")


class OptionsRefused(ManifestRefused):
    """Nothing but options is wrong."""

    heading = "What was asked for cannot be accepted"


def of_options(error: ManifestRefused, options: Mapping[str, Any], *, written: bool) -> ManifestRefused:
    """The refusal with the options that it is about in the place of paths and lines.

    ``written``: the manifest is of our own writing, so that its lines tell the caller nothing. Else only what options
    have laid over it, which has no line, can be theirs.
    """
    told: list[Problem] = []
    named = 0
    for problem in error.problem.problems:
        flag = _flag(problem, options) if written or not problem.line else None
        named += flag is not None
        plain = replace(problem, line=0) if written else problem
        told.append(plain if flag is None else Problem(problem.message, 0, flag))
    kind = OptionsRefused if told and named == len(told) else ManifestRefused
    return kind(replace(error.problem, problems=tuple(told)))


def _flag(problem: Problem, options: Mapping[str, Any]) -> str | None:
    path = problem.path
    if not problem.line:
        for each in options["override"]:
            key = each.partition("=")[0]
            if path == key or (path.startswith(key) and _STEP.match(path, len(key))):
                return f"--override {key}"
    path = path.removeprefix("model_definition.")
    steps = [match.start() for match in _STEP.finditer(path)]
    for end in (len(path), *reversed(steps)):
        flag, option = _FLAGS.get(path[:end], (None, ""))
        if flag is not None and options.get(option) not in (None, ()):
            return flag
    return None
