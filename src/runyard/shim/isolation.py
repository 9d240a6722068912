"""What a program can have for itself alone: a ``/dev/shm`` of a given size, and no network but the loopback.

Both are namespaces of the calling process, which has to be root: mount_namespaces(7), network_namespaces(7).
"""

from __future__ import annotations  # for interpreters of environments, from 3.8 on

import os
import sys

from runyard.shim.lean import libc
from runyard.shim.view import MS_NODEV, MS_NOSUID, own_mounts

CLONE_NEWNET = 0x40000000
SHM = b"/dev/shm"
AF_INET, SOCK_DGRAM, SOCK_CLOEXEC = 2, 2, 0o2000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
IFREQ_SIZE = 40  # of netdevice(7), on machines of 64 bits


def own_shm(mib: int) -> None:
    """Cover ``/dev/shm`` with an empty one of that size, which goes with the last process that sees it. What is in it
    counts as memory of who wrote it. Raises ``OSError``."""
    own_mounts()
    cover_shm(mib)


def cover_shm(mib: int) -> None:
    """The same for a process whose mounts are its own already."""
    libc("mount", b"runyard", SHM, b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=1777,size=%dm" % mib)


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
    """Try both, each in a process of its own, and print the names of those that work, one a line."""
    for name in ("shm", "network_off"):
        pid = os.fork()
        if pid == 0:
            try:
                own_shm(1) if name == "shm" else cut_network()
            except OSError:
                os._exit(1)
            os._exit(0)
        if os.waitpid(pid, 0)[1] == 0:
            os.write(1, name.encode() + b"\n")
    return 0
