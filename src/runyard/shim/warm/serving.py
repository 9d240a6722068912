"""The warm parent's talk with the shim above it: imports first, then a fork for each run.

It does nothing else: it computes nothing, starts no thread, and holds nothing of a run once it is forked.
"""

from __future__ import annotations

import os
import sys

from runyard.shim import isolation, lean, seccomp
from runyard.shim.control import Control
from runyard.shim.lean import PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, interpreter, libc, prctl, signals
from runyard.shim.warm import cell, child
from runyard.shim.warm.ground import Ground
from runyard.shim.warm.preload import Spoilt, Unfit, preload, threads
from runyard.shim.warm.program import Forked

__all__ = ["Forked", "serve"]
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from runyard.shim.lean import Record

CLONE_PARENT = 0x8000
PR_CAPBSET_DROP = 24
MOST_CAPABILITIES = 64
ENOSYS = 38
SYS_CLONE = {"x86_64": 56, "aarch64": 220, "riscv64": 220, "loongarch64": 220, "ppc64le": 120}


def serve(descriptor: int, started: frozenset[str]) -> NoReturn:
    """Import what the shim says, then fork until it hangs up; ends the process. Raises
    :class:`Forked` in a fork that is to be a program."""
    control = Control(descriptor)
    _put_in_order()
    ground = Ground(control, started)
    received = control.receive()
    if received is None:
        os._exit(0)
    order, _ = received
    try:
        try:
            took_ms, failed = preload(ground, list(order["modules"]))
        except Spoilt as spoilt:
            control.tell({"event": "spoilt", "failed": spoilt.failed})
            _begin_again(descriptor, ground)
        control.tell({"event": "loaded", "ms": took_ms, "failed": failed, "threads": threads()})
        if "user" in (order.get("namespaces") or ()):
            _enter_user_namespace(control)
        prctl(PR_SET_DUMPABLE, 0)
    except (OSError, Unfit) as error:
        control.tell({"event": "failed", "message": str(error)})
        os._exit(1)
    seccomp.ready()
    ground.settle()
    control.tell({"event": "ready"})
    while (received := control.receive()) is not None:
        _fork(control, ground, *received)
    os._exit(0)


def _begin_again(descriptor: int, ground: Ground) -> NoReturn:
    """Become a fresh interpreter in this same, confined process; the shim then says what is to be imported this time.
    Raises ``OSError``."""
    os.set_inheritable(descriptor, True)
    with open("/proc/self/cmdline", "rb") as file:
        words = file.read().split(b"\0")[:-1]
    os.execve(words[0], words, ground.env)


def _put_in_order() -> None:
    """Signals, descriptors and rights as a program is to find them: the children inherit them."""
    for number in signals.valid_signals() - {signals.SIGKILL, signals.SIGSTOP}:
        signals.signal(number, signals.SIG_DFL)
    signals.signal(signals.SIGPIPE, signals.SIG_IGN)
    signals.signal(signals.SIGXFSZ, signals.SIG_IGN)
    signals.signal(signals.SIGINT, signals.default_int_handler)
    signals.pthread_sigmask(signals.SIG_SETMASK, ())
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    if null > 0:
        os.close(null)
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def _enter_user_namespace(control: Control) -> None:
    """Become the owner of a new user namespace, in which the shim gives this process the id that it has outside.
    Raises ``OSError``."""
    libc("unshare", isolation.NAMESPACES["user"])
    control.tell({"event": "unshared"})
    received = control.receive()
    if received is None:
        os._exit(0)
    for number in range(MOST_CAPABILITIES):
        try:
            prctl(PR_CAPBSET_DROP, number)  # what it has it keeps, but nothing that it executes can have any
        except OSError:
            return  # beyond the last one


def _fork(control: Control, ground: Ground, message: Record, descriptors: list[int]) -> None:
    """Fork a cell, or the init of one run; or say why not."""
    number = message.get("number")
    try:
        if threads() != 1:
            raise ValueError("the warm parent has several threads")
        if message.get("op") == "cell" and len(descriptors) == 1:
            pid = _clone(CLONE_PARENT | isolation.NAMESPACES["pid"])
            if pid == 0:
                cell.serve(ground, *descriptors)
        else:
            pid = _run(ground, message, descriptors)
    except (OSError, ValueError, KeyError) as error:
        control.tell({"event": "refused", "number": number, "message": str(error)})
    else:
        control.tell({"event": "forked", "number": number, "pid": pid})
    for descriptor in descriptors:
        os.close(descriptor)


def _run(ground: Ground, message: Record, descriptors: list[int]) -> int:
    """Fork the init of a run; returns its process id. Raises ``OSError``, ``ValueError`` and ``KeyError``."""
    if message.get("op") != "run" or len(descriptors) < 4:
        raise ValueError("only cells and runs with four descriptors, and those of its mounts, are understood here")
    order = child.read_order(descriptors[0])
    flags = isolation.flags_of(set(order["namespaces"]) - {"user"})
    if not order.get("network", True):
        flags |= isolation.CLONE_NEWNET
    pid = _clone(CLONE_PARENT | flags)
    if pid == 0:
        os.close(descriptors[0])
        child.begin(ground, order, *descriptors[1:])
    return pid


def _clone(flags: int) -> int:
    """fork(2) with flags of clone(2), CLONE_PARENT among them: the child is one of the shim's. Raises ``OSError``."""
    # struct clone_args, of clone3(2); a child of one's parent ends with the signal that one does oneself
    arguments = flags.to_bytes(8, sys.byteorder).ljust(88, b"\0")
    pid = -1
    interpreter("PyOS_BeforeFork")
    try:
        try:
            pid = libc("syscall", lean.SYS_CLONE3, arguments, 88, holding=True)
        except OSError as error:
            if error.errno != ENOSYS:  # as some containers answer, so that the older call is used
                raise
            number = SYS_CLONE[os.uname().machine]
            pid = libc("syscall", number, flags | signals.SIGCHLD, None, None, None, None, holding=True)
    finally:
        interpreter("PyOS_AfterFork_Parent" if pid else "PyOS_AfterFork_Child")
    return pid
