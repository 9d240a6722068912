"""A cell: process 1 of a PID namespace in which programs of a warm parent run one after another, never two at once.

It spares each program a namespace and the fork of an init. What one program could leave to the next is nothing: the
next is forked when no process of the one before is left; mounts, IPC and network are each program's own; the cell
reads nothing of a run; and what a process may change of another of its user without tracing it is looked at after each
program (:func:`_lasting`): a cell that is not as it was is used no more.
"""

from __future__ import annotations

import os
import resource

from runyard.shim import init, scope
from runyard.shim.control import Control
from runyard.shim.lean import PR_SET_PDEATHSIG, encode, fork_as, libc, prctl, signals
from runyard.shim.warm import child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from runyard.shim.warm.ground import Ground

SCHED_GETATTR = {"x86_64": 315, "aarch64": 275, "riscv64": 275, "loongarch64": 275, "ppc64le": 356}
IOPRIO_GET = {"x86_64": 252, "aarch64": 31, "riscv64": 31, "loongarch64": 31, "ppc64le": 274}
SCHED_ATTR_SIZE = 56  # struct sched_attr with what linux/sched/types.h calls VER1
MOST_LIMITS = 32
FIRST = 2
"""The process id of each program."""


def serve(ground: Ground, connection: int) -> NoReturn:
    """Be a cell until the shim hangs up; ends the process. ``connection``: to the shim. Raises
    :class:`child.program.Forked` in a fork that is to be a program."""
    ground.control.close()
    os.setsid()
    prctl(PR_SET_PDEATHSIG, signals.SIGKILL)
    signals.pthread_sigmask(signals.SIG_BLOCK, signals.valid_signals())
    control = Control(connection)
    try:
        scope.enclose()
        lasting = _lasting()
        while (received := control.receive()) is not None:
            message, descriptors = received
            used = _run(ground, control, message["number"], descriptors)
            changed = lasting is None or _lasting() != lasting
            control.tell({"event": "over", "number": message["number"], "changed": changed, **used})
    except Exception:  # a mistake of ours: the end of a cell is that of its run
        os._exit(init.FAILED)
    os._exit(0)


def _run(ground: Ground, control: Control, number: int, descriptors: list[int]) -> dict[str, object]:
    """Fork a program, and stay until nothing of it is left. Returns what its processes have used."""
    status = descriptors[2]
    born = encode({"event": "born", "number": number}).encode()  # here, where it touches no page of the program's
    program = -1
    try:
        program = _fork()
        if program == 0:
            _say(control.fileno(), born)
            control.close()
            child.be_born(ground, *descriptors)
    except OSError as error:
        _say(status, encode(child.explain("launch", error)).encode() + b"\n")
    for descriptor in descriptors:
        if descriptor != status:
            os.close(descriptor)
    used = _stay(status, program)
    os.close(status)
    return used


def _fork() -> int:
    """fork(2), the child being process 2, as in a namespace of its own. Raises ``OSError``."""
    try:
        return fork_as(FIRST)
    except OSError:
        return os.fork()  # as the kernel counts, then


def _stay(status: int, program: int) -> dict[str, object]:
    user = system = 0.0
    most = 0
    while True:
        try:
            pid, ended, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return {"user_cpu_s": user, "system_cpu_s": system, "max_rss_kib": most}
        user, system, most = user + usage.ru_utime, system + usage.ru_stime, max(most, usage.ru_maxrss)
        if pid == program:
            _say(status, init.ended_line(ended, usage).encode() + b"\n")


def _say(descriptor: int, text: bytes) -> None:
    try:
        os.write(descriptor, text)
    except OSError:
        pass  # the shim hears no more: its end will be this one's, too


def _lasting() -> tuple[object, ...] | None:
    """What another process of the same user could change of this one: limits (prlimit(2)), cores
    (sched_setaffinity(2)), policy and niceness (sched_setattr(2)), priority of input and output (ioprio_set(2)),
    signals that wait since all are blocked (sigqueue(3)). None: that cannot be told here."""
    machine = os.uname().machine
    try:
        attributes = bytes(SCHED_ATTR_SIZE)  # written in place, before anybody else has seen it
        libc("syscall", SCHED_GETATTR[machine], 0, attributes, SCHED_ATTR_SIZE, 0)
        priority = libc("syscall", IOPRIO_GET[machine], 1, 0)
    except (OSError, KeyError):
        return None
    waiting = frozenset(signals.sigpending()) - {signals.SIGCHLD}
    return _limits(), frozenset(os.sched_getaffinity(0)), attributes, priority, waiting


def _limits() -> list[tuple[int, int]]:
    """Of this process, all that there are."""
    found: list[tuple[int, int]] = []
    for number in range(MOST_LIMITS):
        try:
            found.append(resource.getrlimit(number))
        except ValueError:
            break
    return found
