"""The mounts of a program that a warm parent forks, made for it beforehand by the trusted shim.

The warm parent's own mounts are of no use: what is closed to its user it cannot bind, and what the node has mounted
since it began it does not see. So the shim makes copies of the mounts that the program is to see where its parent sees
nothing (:class:`Ground`), and the program's init, which has the rights for that in its user namespace until it gives
them up, covers the folders and puts the copies in their place.

Where the kernel cannot do that, or the parent has mounts that are gone, a short-lived child of the shim makes a mount
namespace that the parent's user namespace owns (:func:`make`). A process in there may enter it, and can undo nothing
in it: mounts that a less privileged namespace gets from another are locked together (mount_namespaces(7)). Only
``/proc`` is left to be mounted in it, since that has to be done from within the program's PID namespace.
"""

import _socket
import os
import select

from runyard.shim import isolation, trees, view
from runyard.shim.confine import Order, failure, groups_of, plan, sources
from runyard.shim.control import MOST_DESCRIPTORS, Control
from runyard.shim.lean import boottime_ns, libc, signals
from runyard.shim.processes import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import NoReturn

    Still = tuple[dict[str, list[str]], list[str]]


LOOKED_NS = 1_000_000_000
"""For so long what was seen of folders above a program's paths holds for the programs that follow."""


class Mounts:
    """Which folders are covered for a program, and what is missing. Either ``descriptors`` are a mount namespace and
    the program's root folder in it, or copies of mounts, in the order of the paths of ``still``: those in folders that
    its init has to cover, by folder, and others."""

    __slots__ = ("covered", "descriptors", "missing", "still")

    def __init__(
        self, descriptors: list[int], covered: list[str], missing: list[str], still: "Still | None" = None
    ) -> None:
        self.descriptors = descriptors
        self.still = still
        self.covered = covered
        self.missing = missing

    def close(self) -> None:
        """Let go of it."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []


class Ground:
    """What the warm parent sees: the folders that are covered for it, and what was mounted when it began."""

    __slots__ = ("_closed", "_fresh", "_gone", "_looked", "_table", "_then", "_watch")

    def __init__(self, order: Order) -> None:
        self._closed = plan(order)
        self._table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._watch = select.poll()
        self._watch.register(self._table, select.POLLPRI)  # with POLLERR: there are other mounts (proc(5))
        self._watch.poll(0)
        self._then = _mounted()
        self._fresh: list[str] = []
        """Where something has been mounted since then, with a slash at the end."""
        self._gone: list[str] = []
        self._looked = view.Looked()

    def mounts(self, order: Order) -> Mounts | None:
        """Copies of what a program is to see where its parent sees nothing; None: they would not be all that its
        mounts differ in, or are too many. Raises ``OSError``."""
        self._look()
        self._looked.refresh(boottime_ns(), LOOKED_NS)
        closed = plan(order, looked=self._looked)
        changed = [*self._gone, *self._fresh]
        fresh = [point for point in _uncovered(self._fresh, closed) if self._can_reach(order, point)]
        if "/" in closed or _uncovered(self._gone, closed) or any(_touches(folder, fresh) for folder in closed):
            return None
        still: dict[str, list[str]] = {}
        for folder, paths in closed.items():  # outer ones before inner ones
            same = self._closed.get(folder) == paths and not _touches(folder, changed) and folder not in paths
            if not same or any(folder.startswith(outer + "/") for outer in still):
                still[folder] = paths
        beside = view.outermost({point.rstrip("/") for point in fresh})
        paths = [*(path for paths in still.values() for path in paths), *beside]
        if len(paths) > MOST_DESCRIPTORS - 4:
            return None
        made, given = Mounts([], list(closed), [], (still, beside)), sources(order)
        try:
            for path in paths:
                made.descriptors.append(_copy(path, given))
        except OSError:
            made.close()
            raise
        return made

    def _can_reach(self, order: Order, point: str) -> bool:
        """Whether a program gets to where something is mounted. Where it does not, neither can its init put a copy."""
        uid = os.geteuid() if order.uid is None else order.uid
        return view.barrier(point.rstrip("/"), uid, groups_of(order), self._looked) is None

    def _look(self) -> None:
        if self._watch.poll(0):
            self._looked = view.Looked()
            now = _mounted()
            self._fresh = [point for mount, point in now.items() if mount not in self._then]
            self._gone = [point for mount, point in self._then.items() if mount not in now]


def _copy(path: str, given: "Mapping[str, str]") -> int:
    if path not in given:
        return trees.copy(path)
    descriptor = view.opened(path, given)
    try:
        return trees.copy_of(descriptor)
    finally:
        os.close(descriptor)


def _uncovered(points: "Iterable[str]", closed: "Iterable[str]") -> list[str]:
    return [point for point in points if not any(point.startswith(folder + "/") for folder in closed)]


def _touches(folder: str, points: "Iterable[str]") -> bool:
    """Whether one of them is that folder, or above or below it."""
    return any(point.startswith(folder + "/") or (folder + "/").startswith(point) for point in points)


def _mounted() -> dict[bytes, str]:
    """Where what is mounted now, with a slash at the end, by all that tells it from another mount."""
    mounts: dict[bytes, str] = {}
    for line in read("/proc/self/mountinfo").splitlines():
        fields = line.split(b" ", 6)
        point = fields[4]
        for octal, character in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
            point = point.replace(octal, character)
        mounts[b" ".join(fields[:6])] = os.fsdecode(point).rstrip("/") + "/"
    return mounts


def can_copy(user_namespace: int) -> bool:
    """Whether copies of mounts can be put in place within that user namespace: tried once, by a child."""
    pid = os.fork()
    if pid == 0:
        try:
            tree = trees.copy("/dev")
            libc("setns", user_namespace, isolation.NAMESPACES["user"])
            libc("unshare", view.CLONE_NEWNS)
            trees.put(tree, b"/dev")
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


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
        covered = plan(order)
        view.cover(covered, sources(order))
        missing = isolation.seal(order.read_only, order.writable)
        missing += isolation.own_places([name for name in order.namespaces if name != "pid"], order.shm_mib)
        missing += isolation.close_devices(order.closed_devices)
        missing += isolation.close_folders(order.read_only, order.writable)
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
