"""What the command line costs before it does anything, and what the client brings with it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from bench.context import Context
from bench.values import Measure, Row, check, row
from bench.yard import PROGRAMS, Yard, manifest
from tools.environment import ROOT, clean_environment, program

OWN = frozenset({"pip", "setuptools", "runyard", "wheel"})


def cpu_s(command: list[str], env: dict[str, str]) -> float:
    """CPU seconds of one command, by the kernel's word when it is reaped."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, each) for each in (0, 1, 2)]
        pid = os.posix_spawn(command[0], command, env, file_actions=actions)
        _, status, used = os.wait4(pid, 0)
    finally:
        os.close(null)
    check(os.waitstatus_to_exitcode(status) == 0, f"{command} ended with {os.waitstatus_to_exitcode(status)}")
    return used.ru_utime + used.ru_stime


def interleaved(commands: dict[str, list[str]], env: dict[str, str], count: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(count + 1):
        for name, command in commands.items():
            used = cpu_s(command, env)
            if number:  # the first one of each reads from the disk
                found[name].append(used)
    return found


def dependencies(folder: Path) -> list[Row]:
    """A client's installation in a fresh environment: what came with it."""
    target = folder / "client"
    quiet = ["--disable-pip-version-check", "--no-input", "-q"]
    subprocess.run([str(program("python")), "-m", "venv", str(target)], check=True)
    began = time.perf_counter()
    subprocess.run(
        [str(target / "bin" / "python"), "-m", "pip", "install", *quiet, str(ROOT)],
        env=clean_environment(),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    took = time.perf_counter() - began
    told = subprocess.run(
        [str(target / "bin" / "python"), "-m", "pip", "list", "--format", "json", *quiet[:2]],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    names = [each["name"] for each in json.loads(told.stdout) if each["name"] not in OWN]
    packages = next((target / "lib").glob("python*/site-packages"))
    sizes = {
        each.name: sum(file.stat().st_size for file in each.rglob("*") if file.is_file() and file.suffix != ".pyc")
        for each in packages.iterdir()
        if each.is_dir() and not each.name.startswith(("pip", "setuptools", "_distutils", "pkg_resources"))
    }
    ours = sum(size for name, size in sizes.items() if name.startswith("runyard")) / 1e6
    rest = sum(size for name, size in sizes.items() if not name.startswith("runyard")) / 1e6
    return [
        row("dependencies of the client: how many", "packages", [float(len(names))], note=", ".join(names)),
        row("dependencies of the client: size", "MB", [rest], note="without compiled files"),
        row("the package itself, server and node in it", "MB", [ours], note="without compiled files"),
        row("`pip install` of the client, downloads and build included", "s", [took]),
    ]


def shown(yard: Yard) -> str:
    return yard.run(PROGRAMS / "trivial", manifest("trivial")).ids[0]


def run(context: Context) -> list[Row]:
    with context.yard(1) as yard:
        runyard = str(program("runyard"))
        commands = {
            "python -c pass": [str(program("python")), "-c", "pass"],
            "runyard --help": [runyard, "--help"],
            "runyard show": [runyard, "show", shown(yard)],
            "runyard list": [runyard, "list"],
            "runyard status": [runyard, "status"],
        }
        found = interleaved(commands, yard.runyard.environment(), context.times(15, 4))
    bare = found.pop("python -c pass")
    stick = sorted(bare)[len(bare) // 2]
    targets = {"runyard --help": "<= 0.12", "runyard show": "<= 0.2"}
    rows = [row(f"`{name}`, CPU", "s", used, targets.get(name, ""), yardstick=stick) for name, used in found.items()]
    rows.append(row("`python -c pass`, CPU (yardstick)", "s", bare))
    return rows + ([] if context.quick else dependencies(context.folder))


MEASURE = Measure("commands", "CPU of commands; dependencies of the client", run)
