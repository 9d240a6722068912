"""Which Python a command would run under if it were called here: the caller's own environment."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from runyard.client.commands import Command, is_python

PROBE: Final = "import json,sys;print(json.dumps([sys.executable,sys.prefix,'%d.%d.%d'%sys.version_info[:3]]))"
PROBE_SECONDS: Final = 20

_ENVIRONMENTS: Final = ("VIRTUAL_ENV", "CONDA_PREFIX")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python: its executable, the prefix of its environment, its version, and why it is the one."""

    executable: str
    prefix: str
    version: str
    why: str


def find_interpreter(command: Command, environment: Mapping[str, str], folder: Path) -> Interpreter | None:
    """The interpreter that the command would find in ``folder`` with this environment; None where there is none.

    The word of the command that calls Python decides; where there is none, the active virtual or conda environment,
    then the first ``python3`` or ``python`` of ``PATH``.
    """
    for path, why in _candidates(command, environment, folder):
        found = probe(path, why)
        if found is not None:
            return found
    return None


def _candidates(command: Command, environment: Mapping[str, str], folder: Path) -> list[tuple[str, str]]:
    search = environment.get("PATH")
    found: list[tuple[str | None, str]] = []
    called = command.python
    if called is not None and "/" in called:
        found.append((str(folder / Path(called).expanduser()), "the command names it"))
    elif called is not None:
        found.append((shutil.which(called, path=search), f"the first `{called}` of PATH"))
    for variable in _ENVIRONMENTS:
        if prefix := environment.get(variable):
            found.append((f"{prefix}/bin/python", f"{variable} names it"))
    found += [(shutil.which(name, path=search), f"the first `{name}` of PATH") for name in ("python3", "python")]
    return [(path, why) for path, why in found if path is not None]


def probe(path: str, why: str) -> Interpreter | None:
    """Ask an interpreter who it is (so that wrappers such as pyenv's are seen through); None when it is none."""
    try:
        done = subprocess.run([path, "-I", "-c", PROBE], capture_output=True, timeout=PROBE_SECONDS, check=False)
        answer: object = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    if not isinstance(answer, list) or len(cast("list[object]", answer)) != 3:
        return None
    executable, prefix, version = (str(each) for each in cast("list[object]", answer))
    return Interpreter(executable or path, prefix, version, why)


def missing(command: Command, environment: Mapping[str, str], folder: Path) -> str | None:
    """What of a command is not there on this machine, as a sentence; None where nothing is found to miss."""
    read = command.read()
    program = next((word for word in read if not re.match(r"[A-Za-z_]\w*=", word)), "")
    if not re.fullmatch(r"[\w./+-]+", program):
        return None  # nothing, or nothing that can be told without running it
    if not _known_to_bash(program, environment, folder):
        what = "is there and cannot be executed (chmod +x)" if (folder / program).is_file() else "is not found here"
        return f"`{program}` {what}, and may not be where the run is either."
    script = read[read.index(program) + 1 :][:1]
    if is_python(program) and script and script[0].endswith(".py") and not (folder / script[0]).is_file():
        return f"There is no file {script[0]} in this folder."
    return None


def _known_to_bash(program: str, environment: Mapping[str, str], folder: Path) -> bool:
    asked = ["bash", "-c", 'type -t -- "$1"', "bash", program]
    try:
        done = subprocess.run(
            asked, cwd=folder, env=dict(environment), capture_output=True, timeout=PROBE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return True  # there is no bash to ask
    return done.returncode == 0
