"""Server and node as forks of a supervisor that has imported what they need: a restart costs no imports.

What forks must have no threads, and opens nothing on behalf of what it forks. A fork gets what a new interpreter would:
its words, its streams, default signals, no descriptor but those that are handed down, chance of its own.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from select import select
from typing import Final, NoReturn, Protocol

from runyard.shim.lean import PR_SET_PDEATHSIG, libc, prctl
from runyard.up.say import say

Main = Callable[[Sequence[str]], int]
PR_SET_NAME: Final = 15
_OWN_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
"""What the supervisor handles in its own way."""


class Process(Protocol):
    """A child that runs: what the supervisor needs of it (:class:`subprocess.Popen` has it)."""

    pid: int

    def poll(self) -> int | None:
        """Its status once it has ended, as ``Popen.returncode``."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """The same, waited for. Raises ``subprocess.TimeoutExpired``."""
        ...

    def terminate(self) -> None:
        """SIGTERM."""
        ...

    def kill(self) -> None:
        """SIGKILL."""
        ...


@dataclass(slots=True)
class Forked:
    """A fork of this process. Its pid is its own until it is reaped here."""

    pid: int
    status: int | None = None

    def poll(self) -> int | None:
        """Its status once it has ended: the exit code, or a signal's number below zero."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def wait(self, timeout: float | None = None) -> int:
        """The same, waited for. Raises ``subprocess.TimeoutExpired``."""
        if self.status is None:
            handle = os.pidfd_open(self.pid)
            try:
                select([handle], [], [], timeout)
            finally:
                os.close(handle)
        if (status := self.poll()) is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return status

    def terminate(self) -> None:
        """SIGTERM."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


@dataclass(slots=True)
class Image:
    """What a child needs is imported into this process, once, so that each start of it is a fork. ``module`` has a
    ``main``, and perhaps ``before_forks``, which makes more that forks share; ``others`` are imported with it."""

    module: str
    others: tuple[str, ...] = ()
    main: Main | None = None
    """How the child is begun in a fork; None: it gets an interpreter of its own."""
    is_tried: bool = False

    def load(self) -> Main | None:
        """Import it unless that was tried before; returns ``main``."""
        if not self.is_tried:
            self.is_tried = True
            self.main = self._imported()
        return self.main

    def _imported(self) -> Main | None:
        before = descriptors()
        gc.disable()  # nothing of what modules make is garbage, and looking for some takes a quarter of the time
        try:
            module = import_module(self.module)
            found: Main = module.main
            for each in self.others:
                import_module(each)
            getattr(module, "before_forks", _nothing)()
        except Exception as error:  # the child itself, in an interpreter of its own, tells what is wrong
            return self._apart(f"{type(error).__name__}: {error}")
        finally:
            gc.enable()
        if threads() != 1 or descriptors() != before:
            return self._apart("a library began a thread or opened a file")
        # A collection in a fork would write to every page that it shares with this process. None here: what modules
        # make is not garbage, and looking through it takes a tenth of a second.
        gc.freeze()
        return found

    def _apart(self, why: str) -> None:
        say(f"{self.module} gets an interpreter of its own ({why}).")


def _nothing() -> None:
    pass


def threads() -> int:
    """How many threads this process has."""
    return len(os.listdir("/proc/self/task"))


def descriptors() -> set[int]:
    """What this process has open."""
    listed = {int(each) for each in os.listdir("/proc/self/fd")}
    return {each for each in listed if _is_open(each)}  # not the one that the folder was read by


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def fork(module: str, main: Main, words: Sequence[str], log: int, fds: Sequence[int]) -> Forked:
    """Begin ``main(words)`` in a fork whose output goes to ``log``. Raises ``OSError`` where there can be none."""
    if threads() != 1:
        raise OSError("the supervisor has threads, and cannot be forked")
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    held = signal.pthread_sigmask(signal.SIG_BLOCK, _OWN_SIGNALS)  # one that came before its handler went would be lost
    try:
        pid = os.fork()
        if pid == 0:
            _live(parent, module, main, words, log, fds)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    return Forked(pid)


def _live(parent: int, module: str, main: Main, words: Sequence[str], log: int, fds: Sequence[int]) -> NoReturn:
    """The life of a fork, which never returns to the supervisor's frames: what they hold is not its own."""
    code = 1
    try:
        _begin_anew(parent, log, fds)
        _name(module, words)
        sys.argv = [module, *words]
        code = main(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _begin_anew(parent: int, log: int, fds: Sequence[int]) -> None:
    """What execve(2) and a new interpreter would do."""
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(0)  # it died before it could be followed
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OWN_SIGNALS)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nowhere, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    for each in descriptors() - set(fds):
        if fcntl.fcntl(each, fcntl.F_GETFD) & fcntl.FD_CLOEXEC:
            os.close(each)
    for each in fds:
        os.set_inheritable(each, True)


def _name(module: str, words: Sequence[str]) -> None:
    """Be told apart by ``ps``: the name of the process, and as much of its command line as the supervisor's has room
    for (``proc(5)``: fields 48 and 49 of stat say where it is)."""
    libc("prctl", PR_SET_NAME, module.encode()[:15], 0, 0, 0)
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = int(fields[45]), int(fields[46])
    if 0 < begin < end:
        text = "\0".join((module, *words)).encode()[: end - begin - 1]
        ctypes.memmove(begin, text.ljust(end - begin, b"\0"), end - begin)
