"""The record of a running installation: which process keeps it, and where it listens."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Running:
    """The supervisor of an installation. A process is its pid, its start time and the boot that it belongs to.
    ``prefix``: the environment of its Python, so that `run` knows it from the caller's."""

    pid: int
    start_ticks: int
    boot_id: str
    url: str
    prefix: str = ""


def start_ticks(pid: int) -> int | None:
    """When a process began, in clock ticks since boot (``proc(5)``, field 22); None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])


def boot_id() -> str:
    """Identity of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def write(home: Path, url: str) -> None:
    """Record this process as the installation's supervisor."""
    running = Running(os.getpid(), start_ticks(os.getpid()) or 0, boot_id(), url, sys.prefix)
    temporary = home / "up.json.tmp"
    temporary.write_text(json.dumps(asdict(running)))
    temporary.replace(home / "up.json")
    (home / "url").write_text(url + "\n")


def read(home: Path) -> Running | None:
    """The supervisor that runs now; None when none does."""
    try:
        running = Running(**json.loads((home / "up.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    alive = running.boot_id == boot_id() and start_ticks(running.pid) == running.start_ticks
    return running if alive else None


def lock(home: Path) -> int | None:
    """Take the installation's lock, held as long as the returned descriptor is open; None when another has it."""
    descriptor = os.open(home / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
