"""What a node does to start a shim, so that tests start real ones."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runyard.shim.cgroups import kill_cgroup
from tests.support.waiting import wait_until

SHIM = Path(__file__).resolve().parents[2] / "src" / "runyard" / "shim" / "shim.py"
UID = 50001
"""A user who owns nothing here."""
PATIENCE_S = 30.0
ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
INTERPRETER = [sys.prefix, sys.base_prefix]
"""What a Python program needs to see of the interpreter that runs the tests."""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start programs under other users")


def bash(command: str) -> list[str]:
    """The command as the product runs it."""
    return ["/bin/bash", "-o", "pipefail", "-e", "-c", command]


class Client:
    """A connection to a shim's control socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")

    def say(self, **fields: Any) -> None:
        self.send(json.dumps(fields).encode() + b"\n")

    def send(self, text: bytes) -> None:
        self._socket.sendall(text)

    def hear(self) -> dict[str, Any] | None:
        """The next event; None: the shim has closed."""
        line = self._lines.readline()
        return json.loads(line) if line else None

    def wait_for(self, event: str) -> dict[str, Any]:
        """The next event of that name; others are passed over."""
        while (heard := self.hear()) is not None:
            if heard["event"] == event:
                return heard
        raise AssertionError(f"the shim closed without {event}")

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


class Attempt:
    """One launched shim, and what it leaves."""

    def __init__(self, folder: Path, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.log = log
        self.process = process

    def connect(self) -> Client:
        return Client(self.folder / "control.sock")

    def running(self) -> Client:
        """A connection, once the program runs."""
        client = self.connect()
        client.wait_for("started")
        return client

    def started(self) -> dict[str, Any]:
        return json.loads((self.folder / "started.json").read_text())

    def ended(self) -> dict[str, Any]:
        """The exit record, after the shim has gone."""
        self.process.wait(PATIENCE_S)
        path = self.folder / "exit.json"
        assert path.exists(), (self.folder / "shim.err").read_text()
        return json.loads(path.read_text())

    def logged(self) -> str:
        return self.log.read_text()

    def wait_for_line(self, line: str) -> None:
        """Until the program has printed that line."""
        wait_until(lambda: self.log.exists() and line in self.logged().splitlines(), f"the line {line!r}", pause=0.005)

    def lock_is_free(self) -> bool:
        descriptor = os.open(self.folder / "lock", os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True


def order_in_memory(text: bytes) -> int:
    """A descriptor from which the launch order can be read, and that no disk holds."""
    descriptor = os.memfd_create("order")
    os.write(descriptor, text)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def spawn(folder: Path, order: bytes, python: str = sys.executable, user: int | None = None) -> subprocess.Popen[bytes]:
    """The node's half of the contract. The folder must exist, empty; with a user the shim runs without privileges.

    Sloppier than the contract in two things that must not reach the program: a descriptor too many, and, as root, a
    group too many.
    """
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    ordered = order_in_memory(order)
    with socket.socket(socket.AF_UNIX) as listening, open(folder / "shim.err", "ab") as errors:
        listening.bind(str(folder / "control.sock"))
        listening.listen()
        names = {"--dir": folder, "--lock-fd": lock, "--listen-fd": listening.fileno(), "--order-fd": ordered}
        arguments = [str(word) for pair in names.items() for word in pair]
        if user is not None:
            for path in (folder, *folder.iterdir()):
                os.chown(path, user, user)
        process = subprocess.Popen(
            [python, "-I", "-S", "-B", str(SHIM), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=[lock, listening.fileno(), ordered, errors.fileno()],
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=[] if user is not None else [UID + 2] if os.geteuid() == 0 else None,
            env={},
        )
    os.close(lock)
    os.close(ordered)
    return process


def order(folder: Path, argv: Sequence[str], **fields: Any) -> dict[str, Any]:
    """A launch order with everything in it."""
    return {
        "attempt": "training-a1B2c3D4e/1",
        "argv": list(argv),
        "env": ENV,
        "cwd": "/tmp",
        "log": str(folder / "training-log.txt"),
        "uid": None,
        "gid": None,
        "cgroup": None,
        "max_runtime_s": None,
        "grace_s": 10.0,
        "visible": [],
        "nice": 0,
        "log_limit_bytes": None,
        **fields,
    }


class Launcher:
    """Starts attempts in folders of their own below one, and ends what a failed test leaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._attempts: list[tuple[Attempt, Mapping[str, Any]]] = []

    def launch(self, argv: Sequence[str] | str, *, user: int | None = None, **fields: Any) -> Attempt:
        """Start a shim for a program (a text is a bash command). ``user``: the shim itself runs as that user."""
        base = self.folder / str(len(self._attempts) + 1)
        attempt_folder = base / "a"
        attempt_folder.mkdir(parents=True, mode=0o700)
        if user is not None:
            os.chown(base, user, user)
        ordered = order(base, bash(argv) if isinstance(argv, str) else argv, **fields)
        python = sys.executable if user is None else "/usr/bin/python3"
        process = spawn(attempt_folder, json.dumps(ordered).encode(), python, user)
        attempt = Attempt(attempt_folder, Path(ordered["log"]), process)
        self._attempts.append((attempt, ordered))
        return attempt

    def close(self) -> None:
        for attempt, ordered in self._attempts:
            if attempt.process.poll() is None:
                attempt.process.send_signal(signal.SIGKILL)
                attempt.process.wait(PATIENCE_S)
            if ordered["cgroup"] is not None:
                kill_cgroup(ordered["cgroup"]["name"])


@contextmanager
def launcher_in(folder: Path) -> Iterator[Launcher]:
    launcher = Launcher(folder)
    try:
        yield launcher
    finally:
        launcher.close()


def group(test: str, **limits: int | None) -> dict[str, Any]:
    """A control group of a name that no other has."""
    return {
        "name": f"runyard/test-{os.getpid()}-{time.monotonic_ns()}-{test}",
        "memory_bytes": None,
        "cpu_millis": None,
        "pids": None,
        **limits,
    }


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not collected does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it may go between opening and reading
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
