"""The installation that is struck: the real `runyard up`, its two halves on small file systems of their own."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import sqlite3
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.chaos.proxy import Door
from bench.processes import everything
from bench.yard import Yard
from tests.support.seaweedfs import S3Server, create_bucket, running_s3_server
from tools.environment import program
from tools.free_port import free_port
from tools.runyard_cli import Runyard

DISK = "320m"
HERE = Path(__file__).resolve().parent


@dataclass(slots=True)
class Clock:
    """The wall clock of the server, which a small library makes jump; None where there is no C compiler."""

    file: Path
    library: Path
    page: mmap.mmap = field(repr=False)

    def jump(self, seconds: int) -> None:
        """From now on the server's wall clock is off by so much."""
        self.page[:8] = struct.pack("l", seconds)


@dataclass(slots=True)
class Place:
    """Where all happens. ``disks``: the halves of the home that can be filled; empty without the right to mount."""

    yard: Yard
    witness: Path
    disks: tuple[Path, ...]
    clock: Clock | None
    store: tuple[S3Server, Door] | None

    @property
    def home(self) -> Path:
        return self.yard.home

    def helpers(self, role: str) -> list[int]:
        """Pids of the launcher, the warm shims or the warm parents of the node. Their forks have their command lines,
        so their place tells: a launcher and a shim above a warm parent are the node's children, and the parent is a
        child of that shim which is no init of a run."""
        node = self.child("node")
        every = list(everything())
        near = [each for each in every if each.parent == node]
        if role != "warm parent":
            return sorted(each.pid for each in near if each.role == role)
        shims = {each.pid for each in near if each.role == "warm shim"}
        return sorted(each.pid for each in every if each.parent in shims and each.role == role and not inner(each.pid))

    def child(self, role: str) -> int | None:
        """The pid of the server or the node, when there is one."""
        supervisor = self.yard.supervisor()
        return next((each.pid for each in everything() if each.parent == supervisor and each.role == role), None)

    def database(self) -> sqlite3.Connection:
        """The store of record, to be read only."""
        return sqlite3.connect(f"file:{self.home}/server/runyard.db?mode=ro", uri=True, timeout=30)


def inner(pid: int) -> bool:
    """Whether a process is in another PID namespace than this one: the init of a run, or below it."""
    try:
        return len(Path(f"/proc/{pid}/status").read_text().partition("NSpid:")[2].splitlines()[0].split()) > 1
    except (OSError, IndexError):
        return True  # it is gone


def built_clock(folder: Path) -> Clock | None:
    """The library, compiled here."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library, file = folder / "clock.so", folder / "clock"
    words = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(HERE / "clock.c"), "-ldl"]
    if subprocess.run(words, capture_output=True, check=False).returncode != 0:
        return None
    file.write_bytes(struct.pack("l", 0))
    with file.open("r+b") as opened:
        return Clock(file, library, mmap.mmap(opened.fileno(), 8))


def mounted(home: Path) -> tuple[Path, ...]:
    """Both halves on file systems of memory, in this process's own mount namespace: they end with it."""
    disks = (home / "server", home / "node")
    if os.geteuid() != 0:
        return ()
    for disk in disks:
        disk.mkdir(mode=0o711)
        words = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=711", "chaos", str(disk)]
        if subprocess.run(words, capture_output=True, check=False).returncode != 0:
            return ()
    return disks


@contextlib.contextmanager
def opened(folder: Path, slots: int, *, store: bool) -> Iterator[Place]:
    """All of it; everything is down and gone afterwards but the folder."""
    folder.chmod(0o755)
    home, witness = folder / "home", folder / "witness"
    home.mkdir(mode=0o755)
    witness.mkdir()
    witness.chmod(0o777)
    settings = "private_tmp = false\nplatform_attempts = 30\n"
    settings += "price_gpu_hour = 1.5\nprice_cpu_hour = 0.25\nprice_gb_hour = 0.125\n"
    (home / "settings.toml").write_text(settings, encoding="utf-8")
    disks, clock = mounted(home), built_clock(folder)
    with contextlib.ExitStack() as stack:
        door: tuple[S3Server, Door] | None = None
        if store:
            server = stack.enter_context(running_s3_server(folder / "store"))
            create_bucket(server, "chaos")
            door = (server, Door(int(server.endpoint_url.rpartition(":")[2])))
        runyard = Runyard(home)
        environment = runyard.environment()
        if clock is not None:
            environment |= {"LD_PRELOAD": str(clock.library), "CHAOS_CLOCK": str(clock.file)}
        words = ["up", "--detach", "--fake-gpus", str(slots), "--port", str(free_port())]
        subprocess.run([str(program("runyard")), *words], env=environment, check=True, capture_output=True, timeout=120)
        stack.callback(lambda: runyard.ask("down", "--cancel-runs"))
        yard = Yard(runyard, slots)
        yard.client.set_quota("default", {"gpus": slots})
        yield Place(yard, witness, disks, clock, door)
