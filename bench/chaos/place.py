"""The installation that is struck: the real `runyard up`, its two halves on small file systems of their own."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import sqlite3
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.chaos.proxy import Door
from bench.processes import everything
from bench.yard import Yard
from tests.support.postgres import Postgres
from tests.support.seaweedfs import S3Server, create_bucket, running_s3_server
from tools.environment import program
from tools.free_port import free_port
from tools.runyard_cli import Runyard

DISK = "320m"
SETTINGS = """\
private_tmp = false
platform_attempts = 30
price_gpu_hour = 1.5
price_cpu_hour = 0.25
price_gb_hour = 0.125
"""
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


class Database(Protocol):
    """A connection to the store of record, to be read only."""

    def execute(self, query: str, /) -> Rows:
        """The rows that it finds."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class Rows(Protocol):
    """What a query found."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]: ...
    def fetchall(self) -> list[tuple[Any, ...]]: ...


@dataclass(frozen=True, slots=True)
class Installed:
    """One `runyard up`: its home, its address, its supervisor."""

    home: Path
    url: str
    supervisor: int

    def child(self, role: str) -> int | None:
        """The pid of its server or its node, when there is one."""
        return next((each.pid for each in everything() if each.parent == self.supervisor and each.role == role), None)


@dataclass(slots=True)
class Place:
    """Where all happens. ``disks``: the halves of the home that can be filled; empty without the right to mount.
    ``files``: the server's folder; ``nodes``: the folders of all nodes; ``beside``: of the one that has no supervisor,
    and whose way to the server leads through ``link``."""

    yard: Yard
    witness: Path
    disks: tuple[Path, ...]
    clock: Clock | None
    store: tuple[S3Server, Door] | None
    installed: tuple[Installed, ...]
    files: Path
    nodes: tuple[Path, ...]
    database: Callable[[], Database]
    link: Door | None = None
    beside: subprocess.Popen[bytes] | None = None
    postgres: Postgres | None = None

    @property
    def home(self) -> Path:
        return self.yard.home

    def helpers(self, role: str) -> list[int]:
        """Pids of the launcher, the warm shims or the warm parents of the node. Their forks have their command lines,
        so their place tells: a launcher and a shim above a warm parent are the node's children, and the parent is a
        child of that shim which is no init of a run."""
        found = {each.child("node") for each in self.installed}
        if self.beside is not None:
            found.add(self.beside.pid)
        every = list(everything())
        near = [each for each in every if each.parent in found]
        if role != "warm parent":
            return sorted(each.pid for each in near if each.role == role)
        shims = {each.pid for each in near if each.role == "warm shim"}
        return sorted(each.pid for each in every if each.parent in shims and each.role == role and not inner(each.pid))

    @property
    def address(self) -> str:
        """Every address, for a client that goes on at the next one."""
        return ",".join(each.url for each in self.installed)

    def leads(self) -> Installed:
        """Whose server leads; the only one, where there is no other."""
        if len(self.installed) == 1:
            return self.installed[0]
        with contextlib.closing(self.database()) as database:
            url = database.execute("SELECT url FROM leases").fetchall()[0][0]
        return next(each for each in self.installed if each.url == url)

    def stands_by(self) -> Installed:
        """The other one."""
        leads = self.leads()
        return next(each for each in self.installed if each != leads)


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


def begin(runyard: Runyard, slots: int, port: int, clock: Clock | None) -> None:
    """`runyard up` in the background, its servers by this clock."""
    environment = runyard.environment()
    if clock is not None:
        environment |= {"LD_PRELOAD": str(clock.library), "CHAOS_CLOCK": str(clock.file)}
    words = ["up", "--detach", "--fake-gpus", str(slots), "--port", str(port)]
    subprocess.run([str(program("runyard")), *words], env=environment, check=True, capture_output=True, timeout=120)


@contextlib.contextmanager
def object_store(folder: Path) -> Iterator[tuple[S3Server, Door]]:
    """A store with a bucket, and the door before it."""
    with running_s3_server(folder / "store") as server:
        create_bucket(server, "chaos")
        yield server, Door(int(server.endpoint_url.rpartition(":")[2]))


@contextlib.contextmanager
def opened(folder: Path, slots: int, *, store: bool) -> Iterator[Place]:
    """All of it; everything is down and gone afterwards but the folder."""
    folder.chmod(0o755)
    home, witness = folder / "home", folder / "witness"
    home.mkdir(mode=0o755)
    witness.mkdir()
    witness.chmod(0o777)
    (home / "settings.toml").write_text(SETTINGS, encoding="utf-8")
    disks, clock = mounted(home), built_clock(folder)
    with contextlib.ExitStack() as stack:
        door = stack.enter_context(object_store(folder)) if store else None
        runyard = Runyard(home)
        begin(runyard, slots, free_port(), clock)
        stack.callback(lambda: runyard.ask("down", "--cancel-runs"))
        yard = Yard(runyard, slots)
        yard.client.set_quota("default", {"gpus": slots})
        here, files = Installed(home, yard.client.url, yard.supervisor()), home / "server"
        file = f"file:{files}/runyard.db?mode=ro"
        yield Place(
            yard,
            witness,
            disks,
            clock,
            door,
            (here,),
            files,
            (home / "node",),
            lambda: sqlite3.connect(file, uri=True, timeout=30),
        )
