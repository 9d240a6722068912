"""What a program can have for itself alone: processes, IPC and mounts, a ``/dev/shm``, no network but the loopback.

All are namespaces: of the calling process, which has to be root, or of a child born in them; pid_namespaces(7),
ipc_namespaces(7), mount_namespaces(7), network_namespaces(7), user_namespaces(7).
"""

from __future__ import annotations  # for interpreters of environments, from 3.8 on

import os
import sys

from runyard.shim.lean import PR_SET_DUMPABLE, fork_into, libc, prctl
from runyard.shim.view import CLONE_NEWNS, MS_BIND, MS_NODEV, MS_NOSUID, own_mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MS_NOEXEC = 8
NOBODY = 65534
CLONE_NEWNET = 0x40000000
NAMESPACES = {"user": 0x10000000, "pid": 0x20000000, "mount": CLONE_NEWNS, "ipc": 0x08000000}
"""The namespaces that an order may ask for, and their flags of clone(2)."""
NO_PROC = "The program sees the numbers of all of the machine's processes: it could not get a /proc of its own"
NO_SHM = "The program shares /dev/shm with others of its user: it could not get one of its own"
OPEN_DEVICES = "The program can open sockets, or GPUs that it was not given"
OPEN_FOLDERS = "The program can write to read-only folders of the machine where its user may"
OPEN_MACHINE = "The program can write wherever the node's user can"
OPEN_TERMINALS = "The program can open the terminals of its user"
EVERYTHING = "/"
"""Among folders that are to be read-only: all that a program sees."""
SHM, TERMINALS = b"/dev/shm", b"/dev/pts"
AF_INET, SOCK_DGRAM, SOCK_CLOEXEC = 2, 2, 0o2000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
IFREQ_SIZE = 40  # of netdevice(7), on machines of 64 bits


def flags_of(namespaces: Iterable[str]) -> int:
    """The flags of clone(2) for some of :data:`NAMESPACES`."""
    return sum(NAMESPACES[name] for name in set(namespaces) & NAMESPACES.keys())


def map_user(ids: tuple[int, int]) -> None:
    """Give the calling process, which was born in a new user namespace, its user and group id there, and no other:
    user_namespaces(7). Raises ``OSError``."""
    prctl(PR_SET_DUMPABLE, 1)  # or its own files below /proc are closed to it
    _map("self", ids)
    prctl(PR_SET_DUMPABLE, 0)


def map_other(pid: int, ids: tuple[int, int]) -> None:
    """The same for another process, which is in its new user namespace. Raises ``OSError``."""
    _map(str(pid), ids)


def _map(process: str, ids: tuple[int, int]) -> None:
    for name, text in (("setgroups", "deny"), ("uid_map", f"{ids[0]} {ids[0]} 1"), ("gid_map", f"{ids[1]} {ids[1]} 1")):
        descriptor = os.open(f"/proc/{process}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def bound_processes(most: int | None) -> None:
    """Let there be no more processes than that of the calling process's user in its user namespace, new ones of which
    are counted by themselves (setrlimit(2), Linux 5.14); None: as before."""
    if most is not None:
        import resource  # noqa: PLC0415 - start-up time of those that need none

        hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_NPROC, (bound, bound))


def own_proc() -> None:
    """Mount the ``/proc`` of the calling process's own PID namespace over the old one. Raises ``OSError``."""
    libc("mount", b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, None)


def own_places(namespaces: Iterable[str], shm_mib: int | None) -> list[str]:
    """Give the calling process, whose mounts are its own already, the ``/proc`` and ``/dev/shm`` that go with its
    namespaces; returns sentences on what could not be had. Raises ``OSError`` for a ``/dev/shm`` of a given size."""
    missing = own_terminals() if "mount" in namespaces else []
    if shm_mib is not None:
        cover_shm(shm_mib)
    elif "ipc" in namespaces:
        try:
            cover_shm(None)
        except OSError as error:
            missing.append(f"{NO_SHM} ({error.strerror}).")
    if "pid" in namespaces:
        try:
            own_proc()
        except OSError as error:
            missing.append(f"{NO_PROC} ({error.strerror}).")
    return missing


def own_terminals() -> list[str]:
    """Cover the machine's pseudo-terminals, some of which may be of the same user, with none (pts(4)); returns a
    sentence where that cannot be done. New ones can be made."""
    try:
        libc("mount", b"devpts", TERMINALS, b"devpts", MS_NOSUID | MS_NOEXEC, b"newinstance,ptmxmode=0666,mode=0620")
    except OSError as error:
        return [f"{OPEN_TERMINALS} ({error.strerror})."] if os.path.isdir(TERMINALS) else []
    return []


def seal(read_only: Iterable[str], writable: Iterable[str]) -> list[str]:
    """Where :data:`EVERYTHING` is to be read-only: make it so for a process whose mounts are its own, but for some
    folders; returns a sentence where that cannot be done. What is mounted later is not."""
    if EVERYTHING not in read_only:
        return []
    from runyard.shim import trees  # noqa: PLC0415 - start-up time of those that need none

    kept: dict[str, int] = {}
    try:
        for path in sorted({os.path.realpath(path) for path in writable if os.path.isdir(path)}):
            kept[path] = trees.copy(path)
        trees.close_in_place(EVERYTHING)
        for path, tree in kept.items():  # outer ones before inner ones
            trees.put(tree, os.fsencode(path))
    except OSError as error:
        return [f"{OPEN_MACHINE} ({error.strerror})."]
    finally:
        for tree in kept.values():
            os.close(tree)
    return []


def close_devices(paths: Iterable[str]) -> list[str]:
    """Cover device nodes and sockets with a file that nobody can open, for a process whose mounts and ``/dev/shm``
    are its own; returns a sentence on those that could not be covered."""
    left: list[str] = []
    cover, source = -1, SHM + b"/.closed"
    for path in filter(os.path.exists, paths):
        try:
            if cover < 0:
                cover = os.open(source, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0)
            libc("mount", source, os.fsencode(path), None, MS_BIND, None)
        except OSError as error:
            left.append(f"{path} ({error.strerror})")
    if cover >= 0:
        os.close(cover)
        os.unlink(source)
    return [f"{OPEN_DEVICES}: {', '.join(left)}."] if left else []


def close_folders(read_only: Iterable[str], writable: Iterable[str]) -> list[str]:
    """Make folders, and all that is mounted below them, read-only for a process whose mounts are its own, but for
    some below them; returns a sentence on what could not be done. :func:`seal` does it for :data:`EVERYTHING`."""
    left: list[str] = []
    folders = [folder for folder in read_only if os.path.isdir(folder)]
    if not folders or EVERYTHING in folders:
        return []
    from runyard.shim import trees  # noqa: PLC0415 - start-up time of those that need none

    try:
        kept = {path: trees.copy(path) for path in writable if os.path.isdir(path)}
    except OSError as error:
        return [f"{OPEN_FOLDERS} ({error.strerror})."]
    for folder in folders:
        try:
            tree = trees.copy(folder)
            try:
                trees.close(tree)
                trees.put(tree, os.fsencode(folder))
            finally:
                os.close(tree)
        except OSError as error:
            left.append(f"{folder} ({error.strerror})")
    for path, tree in kept.items():
        trees.put(tree, os.fsencode(path))
        os.close(tree)
    return [f"{OPEN_FOLDERS}: {', '.join(left)}."] if left else []


def own_shm(mib: int) -> None:
    """Cover ``/dev/shm`` with an empty one of that size, which goes with the last process that sees it. What is in it
    counts as memory of who wrote it. Raises ``OSError``."""
    own_mounts()
    cover_shm(mib)


def cover_shm(mib: int | None) -> None:
    """The same for a process whose mounts are its own already; None: of the kernel's usual size, half of memory."""
    options = b"mode=1777" if mib is None else b"mode=1777,size=%dm" % mib
    libc("mount", b"runyard", SHM, b"tmpfs", MS_NOSUID | MS_NODEV, options)


def cut_network() -> None:
    """Leave the machine's network for an empty one, and start its loopback. Raises ``OSError``."""
    libc("unshare", CLONE_NEWNET)
    start_loopback()


def start_loopback() -> None:
    """Start the loopback of the calling process's network, which a new one has stopped. Raises ``OSError``."""
    request = b"lo".ljust(16, b"\0") + IFF_UP.to_bytes(2, sys.byteorder)
    descriptor = libc("socket", AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    try:
        libc("ioctl", descriptor, SIOCSIFFLAGS, request.ljust(IFREQ_SIZE, b"\0"))
    finally:
        os.close(descriptor)


def probe() -> int:
    """Try all of it, each in a process of its own, and print the names of what works, one a line."""
    root = os.geteuid() == 0
    own = 0 if root else flags_of(("user",))
    tries: dict[str, tuple[int, Callable[[], None]]] = {
        "shm": (own, lambda: own_shm(1)),
        "network_off": (own, cut_network),
        "user": (0, _try_user),
        "metadata": (0, _try_metadata),
        "pid mount ipc": (flags_of(("pid", "mount", "ipc") if root else NAMESPACES), _try_places),
    }
    for names, (flags, attempt) in tries.items():
        if _works(flags, attempt):
            os.write(1, names.replace(" ", "\n").encode() + b"\n")
    return 0


def _works(flags: int, attempt: Callable[[], None]) -> bool:
    ids = (os.geteuid(), os.getegid())
    try:
        pid, _ = fork_into(None, flags)
    except OSError:
        return False
    if pid == 0:
        try:
            if flags & NAMESPACES["user"]:
                map_user(ids)
            attempt()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def _try_user() -> None:
    """A user namespace for somebody without privileges."""
    if os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    libc("unshare", NAMESPACES["user"])


def _try_metadata() -> None:
    """The metadata address closed, in a network of the calling process's own."""
    from runyard.shim import metadata  # noqa: PLC0415 - only the probe needs it, and sockets with it

    libc("unshare", CLONE_NEWNET)
    if metadata.close(NOBODY, NOBODY):
        raise OSError(0, "not closed")


def _try_places() -> None:
    own_mounts(born=True)
    cover_shm(None)
