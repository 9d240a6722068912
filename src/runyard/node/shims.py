"""Shims: started in a session of their own, reached by their control socket, cleared up after when they died."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from errno import EAGAIN

import msgspec

import runyard.shim
from runyard.node.home import AttemptFolder, Record, read_record
from runyard.node.system_path import SYSTEM_PATH
from runyard.shim.cgroups import kill_cgroup
from runyard.shim.processes import signal_all, start_ticks

SHIM = os.path.join(os.path.dirname(os.path.abspath(runyard.shim.__file__)), "shim.py")
BACKLOG = 16
REMOVE_S = 60.0


@contextmanager
def opened(folder: AttemptFolder, order: Mapping[str, object]) -> Generator[list[int]]:
    """What a shim is started with, as descriptors: the learner's folder, its lock, held, its listening socket, the
    order, which has secrets and touches no disk, and what takes errors. Closed after use: the shim has its own.

    Raises ``BlockingIOError`` when a shim has the folder already, or has had it, ``OSError`` when something cannot be
    opened.
    """
    made: list[int] = []
    try:
        made.append(os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        made.append(os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        fcntl.flock(made[1], fcntl.LOCK_EX | fcntl.LOCK_NB)  # held by the shim as soon as it has inherited it
        if os.path.exists(folder.started) or os.path.exists(folder.exit):
            raise BlockingIOError(EAGAIN, "A shim has been there, whoever started it", folder.path)
        made.append(_listen(folder, made[0]))
        made.append(os.memfd_create("order", os.MFD_CLOEXEC))
        os.write(made[3], msgspec.json.encode(order))
        os.lseek(made[3], 0, os.SEEK_SET)
        made.append(os.open(folder.shim_errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
        yield made
    finally:
        for descriptor in made:
            os.close(descriptor)


def start_shim(
    folder: AttemptFolder, order: Mapping[str, object], holding: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start the shim of a prepared learner, an interpreter of its own, and hand it its order by descriptor.

    ``holding``: descriptors that it is to have open as long as it lives, and that its program does not get.

    Raises ``BlockingIOError`` when a shim has the folder already, ``OSError`` when none can be started.
    """
    with opened(folder, order) as (_, lock, listening, orders, errors):
        named = {"--dir": folder.path, "--lock-fd": lock, "--listen-fd": listening, "--order-fd": orders}
        arguments = [str(word) for pair in named.items() for word in pair]
        return run_script(arguments, (lock, listening, orders, *holding), errors)


def run_script(arguments: Sequence[str], inherited: Sequence[int], errors: int) -> subprocess.Popen[bytes]:
    """Start ``shim.py`` in a session of its own. Raises ``OSError``."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", SHIM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        cwd="/",
        env={"PATH": SYSTEM_PATH, "LANG": "C.UTF-8"},
        pass_fds=tuple(inherited),
        start_new_session=True,
    )


def _listen(folder: AttemptFolder, place: int) -> int:
    """A listening socket at the folder's path, which may be longer than a socket's address (unix(7)) can be."""
    try:
        os.unlink(folder.socket)
    except FileNotFoundError:
        pass  # the first try
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(f"/proc/self/fd/{place}/control.sock")
        os.chmod(folder.socket, 0o600)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening.detach()


def connect(folder: AttemptFolder) -> socket.socket:
    """A connection to an attempt's shim, not blocking. Raises ``OSError`` when nobody listens."""
    place = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(1.0)  # a shim that was stopped takes no more than its queue holds
            connection.connect(f"/proc/self/fd/{place}/control.sock")
        except OSError:
            connection.close()
            raise
        connection.setblocking(False)
        return connection
    finally:
        os.close(place)


def end_what_is_left(folder: AttemptFolder, group: str, started: Record, within_s: float = 10.0) -> set[int]:
    """End every process of an attempt whose shim is gone; returns those that hang in the kernel (none, but rarely).

    By its control group; where it had none, by its PID namespace, which ends with its init; where it had none either,
    by the variable that all of its processes inherit.
    """
    group_record: Record = started.get("cgroup") or {}
    recorded: list[str] = group_record.get("folders") or []
    born_alone = "pid" in (started.get("namespaces") or ())
    if born_alone:
        signal_all(lambda: _the_same(started, "pid"), (signal.SIGKILL,))
    left = kill_cgroup(group, recorded, within_s)
    if recorded:
        return left

    def living() -> list[int]:
        return _the_same(started, "pid") if born_alone else marked(folder.run, folder.learner)

    deadline, pause = time.monotonic() + within_s, 0.002
    while alive := signal_all(living, (signal.SIGKILL,)):
        if time.monotonic() > deadline:
            return alive
        time.sleep(pause)
        pause = min(0.1, pause * 2)
    return set()


def remove_container(started: Record) -> None:
    """Have the engine that a start record names forget the container of a program whose shim is gone. What it cannot
    do now is done when a node starts."""
    named: Record = started.get("container") or {}
    if not named:
        return
    argv, env = [named["engine"], *named["remove"]], named["env"]
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            argv, env=env, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=REMOVE_S, check=False
        )


def kill_shim(folder: AttemptFolder) -> None:
    """End a shim that hangs, by the identity in its start record; its program dies with it.

    The shim of a warm parent has other programs, too: the init of this one is ended instead, and the shim itself when
    that has ended before and the shim has not noticed."""
    started = read_record(folder.started) or {}
    if started.get("way") == "warm" and signal_all(lambda: _the_same(started, "pid"), (signal.SIGKILL,)):
        return
    signal_all(lambda: _the_same(started, "shim_pid"), (signal.SIGKILL,))


def _the_same(started: Record, name: str) -> list[int]:
    """The process that a start record names, if that is still there (and not just not collected yet)."""
    ticks = started.get("shim_start_ticks" if name == "shim_pid" else "pid_start_ticks")
    pid = started.get(name)
    return [pid] if isinstance(pid, int) and ticks is not None and start_ticks(pid, living=True) == ticks else []


def marked(run: str, learner: int | None = None) -> list[int]:
    """The living processes whose environment names a run, or one learner of it."""
    marks: set[bytes] = {
        f"TRAINING_ID={run}".encode(),
        *([] if learner is None else [f"LEARNER_ID={learner}".encode()]),
    }
    found: list[int] = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    variables = file.read().split(b"\0")
            except OSError:
                continue  # it ended, or it is not ours to see
            if marks <= set(variables):
                found.append(int(name))
    return found
