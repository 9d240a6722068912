"""The init of one run: the process between the kernel and the program, which nothing of the program can reach.

It says that it is ready, waits for leave, forks the program, and says at once how that ended. It stays as long as any
child is left to it: as process 1 of a PID namespace, or as a subreaper, it inherits the program's orphans. Its own
end, even by SIGKILL from outside, is the end of every process in the namespace (pid_namespaces(7)).

It blocks every signal that can be blocked, and it is not dumpable: a process of the same user id can neither trace it
nor open its descriptors below /proc (ptrace(2), "access mode checking"). Written for Python 3.8 and later, since it
also runs in a fork of whatever interpreter a run's environment has.
"""

import os
import resource  # noqa: F401 # pyright: ignore[reportUnusedImport] - os.wait4 would, maybe where it cannot be reached
import time

from runyard.shim.lean import PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE, encode, prctl, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from resource import struct_rusage
    from typing import NoReturn

FAILED = 127
"""Exit code of an init that was given no leave or lost its supervisor, and of a child that became no program."""


class Birth:
    """What a forked child holds while it becomes the program."""

    __slots__ = ("pipe", "stage")

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe
        """Closed by execve(2), or by :meth:`begun`: until then the program counts as not begun."""
        self.stage = "exec"
        """Named in the report when an ``OSError`` comes out: set it before each step that can fail."""

    def leave(self) -> None:
        """Wait for leave, before anything of the user's is run: an init has it before it forks."""

    def begun(self) -> None:
        """Say that the program begins, in a child that becomes it without execve(2)."""
        os.close(self.pipe)

    def anew(self, why: str) -> None:
        """Say that the program begins, in a child of a warm parent that executes an interpreter, and why."""
        os.write(self.pipe, encode({"begun": True, "fresh": why}).encode())


def explained(stage: str, error: OSError) -> "dict[str, object]":
    """The report of a stage that failed, in the system's words."""
    return {"stage": stage, "errno": error.errno or None, "message": error.strerror or ""}


def serve(
    status: int,
    release: int,
    ready: "Mapping[str, object]",
    become: "Callable[[Birth], NoReturn]",
    explain: "Callable[[str, OSError], dict[str, object]]" = explained,
    spawn: "Callable[[], int] | None" = None,
    settle: "Callable[[], object] | None" = None,
) -> "NoReturn":
    """Be the init of one run; ends the process.

    ``status``: where lines of JSON go: ``{"ready": true, ...}`` with the fields of ``ready``; after leave
    ``{"begun": true}`` or ``{"stage", "errno", "message"}``; ``{"ended": wait status, "at_boottime_ns", "user_cpu_s",
    "system_cpu_s", "max_rss_kib"}`` of the program and the children it waited for. ``release``: where one byte is
    leave; the end of the file is death. Both are closed in the child, whose signals are as a program finds them.
    ``become`` makes the child the program and never returns; an ``OSError`` of it is a failed stage. ``spawn``, where
    given, starts the program instead and returns its process id. ``settle``: done while leave is waited for; an
    ``OSError`` of it is a failed stage ``filter``.
    """
    signals.pthread_sigmask(signals.SIG_BLOCK, signals.valid_signals())
    prctl(PR_SET_DUMPABLE, 0)
    if os.getpid() != 1:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        tell(status, encode({"ready": True, **ready}))
        refused = _settle(settle, explain)
        if os.read(release, 1):
            os.close(release)
            if refused is not None:
                tell(status, encode(refused))
                os._exit(FAILED)
            program = _fork(status, become, explain) if spawn is None else _spawn(status, spawn, explain)
            _stay(status, program)
    except OSError:
        pass  # nobody hears any more: the supervisor is gone, and the run with it
    os._exit(FAILED)


def _settle(
    settle: "Callable[[], object] | None", explain: "Callable[[str, OSError], dict[str, object]]"
) -> "dict[str, object] | None":
    """The report of its failure; None: all is well."""
    try:
        if settle is not None:
            settle()
    except OSError as error:
        return explain("filter", error)
    return None


def _fork(
    status: int, become: "Callable[[Birth], NoReturn]", explain: "Callable[[str, OSError], dict[str, object]]"
) -> int:
    """Fork the program, and report whether it began. Returns its process id."""
    heard, pipe = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(heard)
        os.close(status)
        _be_born(Birth(pipe), become, explain)
    os.close(pipe)
    report = b""
    while chunk := os.read(heard, 4096):
        report += chunk
    os.close(heard)
    tell(status, report.decode() or '{"begun": true}')
    return child


def _spawn(status: int, spawn: "Callable[[], int]", explain: "Callable[[str, OSError], dict[str, object]]") -> int:
    """Start the program without a fork of this process, and report whether it began. Returns its process id, or -1."""
    try:
        child = spawn()
    except OSError as error:
        tell(status, encode(explain("exec", error)))
        return -1
    tell(status, '{"begun": true}')
    return child


def _be_born(
    birth: Birth,
    become: "Callable[[Birth], NoReturn]",
    explain: "Callable[[str, OSError], dict[str, object]]",
) -> "NoReturn":
    try:
        prctl(PR_SET_DUMPABLE, 1)
        signals.pthread_sigmask(signals.SIG_SETMASK, ())
        become(birth)
    except OSError as error:
        os.write(birth.pipe, encode(explain(birth.stage, error)).encode())
    except Exception as error:  # a mistake of ours is a failed stage, too: it must not look like the program's end
        os.write(birth.pipe, encode(explain(birth.stage, OSError(0, type(error).__name__))).encode())
    os._exit(FAILED)


def _stay(status: int, program: int) -> "NoReturn":
    """Reap until no child is left, telling the program's own end at once."""
    while True:
        try:
            pid, ended, usage = os.wait4(-1, 0)
        except ChildProcessError:
            os._exit(0)
        if pid == program:
            tell(status, ended_line(ended, usage))


def ended_line(status: int, usage: "struct_rusage") -> str:
    """What an init tells of the program's end."""
    at = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    cpu = f'"user_cpu_s": {usage.ru_utime:.6f}, "system_cpu_s": {usage.ru_stime:.6f}'
    return f'{{"ended": {status}, "at_boottime_ns": {at}, {cpu}, "max_rss_kib": {usage.ru_maxrss}}}'


def tell(status: int, line: str) -> None:
    """Write a line, whole. Raises ``OSError``."""
    text = line.encode() + b"\n"
    while text:
        text = text[os.write(status, text) :]
