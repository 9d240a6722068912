"""The virtual environment beside the project: made when it is missing, filled when what it should hold has changed."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tools.screen import Step, say

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv"
DROPPED = frozenset(
    {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_REQUIRE_VIRTUALENV", "PIP_TARGET", "PIP_USER"}
    | {"ML_ENV", "ML_INSTANCE", "ML_USERNAME", "ML_PASSWORD"}
)
STAMP = FOLDER / "runyard-stamp.json"


class NotPrepared(Exception):
    """The environment could not be made; the message is a sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What an environment was filled with: it is used again only while nothing of this has changed."""

    pyproject: str
    """SHA-256 of pyproject.toml."""
    root: str
    """An environment works at the place where it was made, and nowhere else."""
    extras: frozenset[str]

    def covers(self, wanted: "Stamp") -> bool:
        return (self.pyproject, self.root) == (wanted.pyproject, wanted.root) and wanted.extras <= self.extras

    def write(self, path: Path) -> None:
        content = {"pyproject": self.pyproject, "root": self.root, "extras": sorted(self.extras)}
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def read_stamp(path: Path) -> Stamp | None:
    """None when there is none, or none that can be read: the environment is then filled again."""
    try:
        content = cast("dict[str, object]", json.loads(path.read_text(encoding="utf-8")))
        extras = cast("list[str]", content["extras"])
        return Stamp(str(content["pyproject"]), str(content["root"]), frozenset(extras))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def wanted_stamp(extras: Iterable[str]) -> Stamp:
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    return Stamp(digest, str(ROOT), frozenset(extras))


def program(name: str) -> Path:
    return FOLDER / "bin" / name


def clean_environment() -> dict[str, str]:
    """The environment variables for programs of ours.

    Left out is what would make Python look elsewhere, and what points at an installation of the person's own.
    """
    kept = {
        name: value for name, value in os.environ.items() if name not in DROPPED and not name.startswith("RUNYARD_")
    }
    return {**kept, "PATH": f"{FOLDER / 'bin'}{os.pathsep}{kept.get('PATH', os.defpath)}"}


def prepare(extras: Iterable[str]) -> None:
    """Makes and fills the environment unless it is there already.

    Raises ``NotPrepared`` with what to do about it.
    """
    wanted = wanted_stamp(extras)
    stamp = read_stamp(STAMP)
    if stamp is not None and stamp.covers(wanted) and works():
        say(f"uses {FOLDER.name}, which has all it needs")
        return
    if not works():
        create()
        stamp = None
    if stamp is not None:
        wanted = Stamp(wanted.pyproject, wanted.root, wanted.extras | stamp.extras)
    install(sorted(wanted.extras))
    wanted.write(STAMP)


def works() -> bool:
    """Whether the environment's Python starts, is new enough, and has pip."""
    probe = "import sys, pip; raise SystemExit(sys.version_info < (3, 11))"
    try:
        return subprocess.run([program("python"), "-c", probe], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def create() -> None:
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise NotPrepared(
            f"This Python has no {' and no '.join(missing)}, so it cannot make a virtual environment. "
            f"On Debian and Ubuntu `apt install python{version}-venv` brings them; then start this again."
        )
    with Step(f"makes {FOLDER.name}"):
        made = subprocess.run(
            [sys.executable, "-m", "venv", "--clear", str(FOLDER)], capture_output=True, text=True, check=False
        )
        if made.returncode != 0:
            raise NotPrepared(f"`python3 -m venv {FOLDER}` failed:\n{(made.stdout + made.stderr).strip()}")


def install(extras: list[str]) -> None:
    target = f".[{','.join(extras)}]"
    pip_install = [str(program("python")), "-m", "pip", "install", "--disable-pip-version-check", "--no-compile"]
    tail: deque[str] = deque(maxlen=40)
    with Step(f"installs {target}") as step:
        with subprocess.Popen(
            [*pip_install, "-e", target],
            cwd=ROOT,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as pip:
            assert pip.stdout is not None  # asked for above
            for line in pip.stdout:
                tail.append(line)
                step.show(summary(line))
        if pip.returncode != 0:
            raise NotPrepared(
                f"pip ended with {pip.returncode}; its last words:\n{''.join(tail).rstrip()}\n"
                f"Is the package index reachable? When it is, start this again: it goes on where it was."
            )
        compile_all(FOLDER / "lib")


def compile_all(folder: Path) -> None:
    """Write the bytecode of all modules in a folder, on all cores, even where Python is told to keep none (pip would
    do it on one). Some packages bring files that are for another version: they stay as they are."""
    command = [str(program("python")), "-m", "compileall", "-qq", "-j", "0", str(folder)]
    subprocess.run(command, cwd=ROOT, env=clean_environment(), stdin=subprocess.DEVNULL, check=False)


def summary(line: str) -> str:
    """One of pip's lines, without what only pip cares for."""
    words = line.split()
    if not words or words[0] in {"WARNING:", "Looking", "Requirement"}:
        return ""
    return " ".join(words[:2] if words[0] in {"Collecting", "Downloading", "Using"} else words[:3])
