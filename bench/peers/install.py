"""Installs the peers, versions pinned, into ``.bench/`` beside the project: nothing of ours ever imports them."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tools.environment import ROOT, clean_environment, program

FOLDER = ROOT / ".bench"
VENV = FOLDER / "peers"
UNPACKED = FOLDER / "debian"
STAMP = FOLDER / "installed.json"


@dataclass(frozen=True, slots=True)
class Package:
    """One peer. ``source``: ``pip`` or ``apt``; ``licence``: its SPDX name, since its code runs here."""

    name: str
    source: str
    version: str
    licence: str

    @property
    def pin(self) -> str:
        return f"{self.name}=={self.version}" if self.source == "pip" else self.name


PACKAGES = (
    Package("hyperqueue", "pip", "0.27.0", "MIT"),
    Package("ray[default]", "pip", "2.60.0", "Apache-2.0"),
    Package("distributed", "pip", "2026.8.0", "BSD-3-Clause"),
    Package("joblib", "pip", "1.6.0", "BSD-3-Clause"),
    Package("submitit", "pip", "1.5.4", "MIT"),
    Package("mlflow", "pip", "3.17.2", "Apache-2.0"),
    Package("parallel", "apt", "Debian's", "GPL-3.0-or-later"),
)
BY_NAME = {package.name.partition("[")[0]: package for package in PACKAGES}


def interpreter() -> Path:
    return VENV / "bin" / "python"


def installed() -> dict[str, str]:
    """What became of each peer: its version, or ``absent: why``."""
    try:
        return dict(json.loads(STAMP.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def missing(name: str) -> str | None:
    """Why a peer cannot be measured, None when it can."""
    told = installed().get(name, "absent: `python -m bench --peers` installs it")
    return told.removeprefix("absent: ") if told.startswith("absent: ") else None


def install() -> dict[str, str]:
    """Install what is not there yet; a peer that cannot be had is noted and keeps none of the others from it."""
    found = {name: told for name, told in installed().items() if not told.startswith("absent: ")}
    if not interpreter().exists():
        FOLDER.mkdir(exist_ok=True)
        _run(str(program("python")), "-m", "venv", str(VENV))
        found = {name: told for name, told in found.items() if BY_NAME[name].source != "pip"}
    for name, package in BY_NAME.items():
        if found.get(name, "").startswith(package.version) or (package.source == "apt" and name in found):
            continue
        print(f"installs {package.pin}", flush=True)
        problem = _pip(package) if package.source == "pip" else _apt(package)
        found[name] = f"absent: {problem}" if problem else _version(package)
        STAMP.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def _run(*command: str, cwd: Path | None = None) -> str:
    """Its last words when it failed, else an empty text."""
    done = subprocess.run(
        command, cwd=cwd, env=clean_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    words = (done.stderr or done.stdout).strip().splitlines()
    return "" if done.returncode == 0 else (words[-1] if words else f"exit code {done.returncode}")


def _pip(package: Package) -> str:
    quiet = ("--disable-pip-version-check", "--no-input", "-q")
    return _run(str(interpreter()), "-m", "pip", "install", *quiet, package.pin)


def _apt(package: Package) -> str:
    """Unpacked, not installed: the machine's own programs stay as they are."""
    if shutil.which("apt-get") is None:
        return "this machine has no apt-get"
    UNPACKED.mkdir(parents=True, exist_ok=True)
    problem = _run("apt-get", "download", package.name, cwd=UNPACKED)
    if problem:
        return problem
    return _run("dpkg-deb", "-x", str(max(UNPACKED.glob(f"{package.name}_*.deb"))), str(UNPACKED))


def _version(package: Package) -> str:
    if package.source == "pip":
        return package.version
    return max(UNPACKED.glob(f"{package.name}_*.deb")).name.split("_")[1]


if __name__ == "__main__":
    for name, told in install().items():
        print(f"{name}: {told} ({BY_NAME[name].licence})")
