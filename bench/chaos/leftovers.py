"""What is still there when all is down: processes, control groups, mounts."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from bench.processes import look

PATIENCE_S = 10.0


def groups(home: Path) -> list[str]:
    """Control groups of this home's attempts, of either version. (The empty one above them stays where a node was
    killed or the last attempt's went after it; others' groups come and go while this looks.)"""
    name = hashlib.sha256(os.path.realpath(home / "node").encode()).hexdigest()[:12]
    inner = f"/runyard/{name}"
    found = (place for place, _, _ in os.walk("/sys/fs/cgroup", onerror=None))
    return [place for place in found if f"{inner}/" in place]


def processes(home: Path) -> list[str]:
    """Processes that name this home in their words or variables."""
    found: list[str] = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid() and (process := look(int(entry))) is not None:
            try:
                text = process.command.encode() + Path(f"/proc/{entry}/environ").read_bytes()
            except OSError:
                continue
            if str(home).encode() in text and process.command:
                found.append(f"process {entry}: {process.command[:100]}")
    return found


def mounts(home: Path, own: tuple[Path, ...]) -> list[str]:
    words = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [f"mount {each}" for each in words if each.startswith(str(home)) and Path(each) not in own]


def left(home: Path, own: tuple[Path, ...]) -> list[str]:
    """All of it, after a moment in which it may still go."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = processes(home) + groups(home) + mounts(home, own)
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)
