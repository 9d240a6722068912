"""The mounts of a program that a warm parent forks, made for it beforehand by the trusted shim.

The warm parent's own mounts are of no use: what is closed to its user it cannot bind, and what the node has mounted
since it began it does not see. So a short-lived child of the shim makes a mount namespace that the parent's user
namespace owns. A process in there may enter it, and can undo nothing in it: mounts that a less privileged namespace
gets from another are locked together (mount_namespaces(7)). Only ``/proc`` is left to be mounted in it, since that has
to be done from within the program's PID namespace.
"""

import _socket
import os

from runyard.shim import isolation, view
from runyard.shim.confine import Order, failure
from runyard.shim.control import Control
from runyard.shim.lean import libc, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


class Mounts:
    """A mount namespace, the program's root folder in it, which folders are covered there, and what is missing."""

    __slots__ = ("covered", "descriptors", "missing")

    def __init__(self, descriptors: list[int], covered: list[str], missing: list[str]) -> None:
        self.descriptors = descriptors
        self.covered = covered
        self.missing = missing

    def close(self) -> None:
        """Let go of it."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []


def make(order: Order, user_namespace: int) -> Mounts:
    """Make the mounts of an order's program, owned by a user namespace. Raises ``OSError``."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    control, other = Control(ours.detach()), Control(theirs.detach())
    signals.pthread_sigmask(signals.SIG_BLOCK, signals.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _prepare(order, user_namespace, other)
    finally:
        signals.pthread_sigmask(signals.SIG_SETMASK, ())
    other.close()
    received = control.receive()
    control.close()
    os.waitpid(pid, 0)
    if received is None or len(received[1]) != 2:
        message = str(received[0].get("message", "")) if received else ""
        raise OSError(0, message or "the process that was to make them ended")
    report, descriptors = received
    return Mounts(descriptors, report["covered"], report["missing"])


def _prepare(order: Order, user_namespace: int, control: Control) -> "NoReturn":
    try:
        os.umask(0o022)
        root = os.geteuid() == 0
        if not root:
            libc("setns", user_namespace, isolation.NAMESPACES["user"])
        view.own_mounts()
        gid = order.gid if order.gid is not None else order.uid or 0
        covered = view.plan(order.visible, order.uid, gid, order.hide)
        view.cover(covered)
        missing = isolation.own_places([name for name in order.namespaces if name != "pid"], order.shm_mib)
        if root:
            libc("setns", user_namespace, isolation.NAMESPACES["user"])
            libc("unshare", view.CLONE_NEWNS)
        opened = [os.open(path, flags) for path, flags in (("/proc/self/ns/mnt", os.O_RDONLY), ("/", os.O_PATH))]
        control.tell({"covered": list(covered), "missing": missing}, opened)
    except OSError as error:
        control.tell(failure("view", error))
    except Exception as error:
        control.tell(failure("view", OSError(0, type(error).__name__)))
    os._exit(0)
