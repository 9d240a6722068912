"""Which way a learner's program is started: forked by a warm parent where that is provably the same, else by bash."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from runyard.core.plain_command import PlainCommand, read_plain
from runyard.node.prepare import Prepared
from runyard.shim.warm.variables import import_time_variables
from runyard.wire.orders import Launch

OF_BASH = frozenset({"BASH_ENV", "ENV", "SHELLOPTS", "BASHOPTS", "POSIXLY_CORRECT", "IFS", "CDPATH"})
"""Variables that change how bash itself reads a command (bash(1), Shell Variables)."""
FUNCTION = "BASH_FUNC_"
OLDEST = (3, 8)


@dataclass(frozen=True, slots=True)
class Fork:
    """A program for a warm parent. ``executable``: the interpreter that bash would have found; ``program`` and ``env``
    as the shim's order has them."""

    executable: str
    program: Mapping[str, object]
    env: Mapping[str, str] = field(repr=False)


def choose(order: Launch, prepared: Prepared) -> Fork | str:
    """How a prepared learner is started: a fork, or why not, in a sentence."""
    env: Mapping[str, str] = prepared.shim_order["env"]  # pyright: ignore[reportAssignmentType] - what prepare puts there
    plain = read_plain(order.command)
    why = _obstacle(order, prepared, plain)
    if why or isinstance(plain, str):
        return f"Started by bash: {why}."
    executable = found_in(env.get("PATH", ""), plain.interpreter)
    if executable is None:
        return f"Started by bash: there is no `{plain.interpreter}` in its PATH."
    cwd = str(prepared.shim_order["cwd"])
    if plain.script is not None and not os.path.isfile(os.path.join(cwd, plain.script)):
        return f"Started by bash: there is no file {plain.script}."
    program: dict[str, object] = {
        "script": plain.script,
        "module": plain.module,
        "args": list(plain.arguments),
        "argv0": plain.script or "-m",
    }
    return Fork(executable, program, as_bash_leaves_it(env, cwd, executable))


def _obstacle(order: Launch, prepared: Prepared, plain: PlainCommand | str) -> str:
    if order.stage.warm is None:
        return "the manifest says `warm: off`"
    if isinstance(plain, str):
        return f"the command has {plain}"
    if order.learners > 1 or prepared.processes > 1:
        return "the run has several processes"
    read_early = early_variables(order)
    if read_early:
        return f"{read_early[0]} is read when an interpreter or a library starts"
    version = prepared.interpreter.python
    if version and tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        return f"its interpreter is Python {version}"
    return ""


def early_variables(order: Launch) -> list[str]:
    """Of the run's own variables those that a fork would come too late for."""
    given: dict[str, str] = {**order.env, **order.secret_env}
    return sorted({*import_time_variables(given), *_for_bash(given)})


def _for_bash(names: Iterable[str]) -> list[str]:
    return [name for name in names if name in OF_BASH or name.startswith(FUNCTION)]


def found_in(path: str, name: str) -> str | None:
    """The file that bash would run for a name, from a PATH of absolute folders; None where there is none, or where
    PATH is not so plain."""
    for folder in path.split(":"):
        if not folder.startswith("/"):
            return None
        file = f"{folder}/{name}"
        if os.path.isfile(file) and os.access(file, os.X_OK):
            return file
    return None


def as_bash_leaves_it(env: Mapping[str, str], cwd: str, executable: str) -> dict[str, str]:
    """The environment as a program has it that `bash -c` has become."""
    return {"SHLVL": "0", **env, "PWD": cwd, "_": executable}
