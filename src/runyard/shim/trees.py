"""Copies of mounts that are no part of any file system yet: made by who may see what they hold, put in their place by
who may mount but not see it; open_tree(2), move_mount(2), mount_setattr(2), Linux 5.12."""

from __future__ import annotations  # for interpreters of environments, from 3.8 on

import os
import sys

from runyard.shim.lean import libc

SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442  # the same on every architecture
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000  # linux/fcntl.h
OPEN_TREE_CLONE = 1  # linux/mount.h, as the next
CLONE = OPEN_TREE_CLONE | AT_RECURSIVE | os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 4
MS_PRIVATE = 1 << 18
MOUNT_ATTR_RDONLY = 1
PRIVATE = b"".join(word.to_bytes(8, sys.byteorder) for word in (0, 0, MS_PRIVATE, 0))
READ_ONLY = b"".join(word.to_bytes(8, sys.byteorder) for word in (MOUNT_ATTR_RDONLY, 0, 0, 0))
"""struct mount_attr: flags to set and to clear, propagation, a user namespace."""


def copy(path: str) -> int:
    """A copy of what is mounted at and below a path, of which no other mount hears: its descriptor. Raises
    ``OSError``."""
    return _own(libc("syscall", SYS_OPEN_TREE, AT_FDCWD, os.fsencode(path), CLONE))


def copy_of(descriptor: int) -> int:
    """The same of what a descriptor stands for."""
    return _own(libc("syscall", SYS_OPEN_TREE, descriptor, b"", CLONE | AT_EMPTY_PATH))


def _own(tree: int) -> int:
    try:
        libc("syscall", SYS_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH | AT_RECURSIVE, PRIVATE, len(PRIVATE))
    except OSError:
        os.close(tree)
        raise
    return tree


def close(tree: int) -> None:
    """Make a copy, and all that is mounted in it, read-only. Raises ``OSError``."""
    libc("syscall", SYS_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH | AT_RECURSIVE, READ_ONLY, len(READ_ONLY))


def close_in_place(path: str) -> None:
    """Make all that is mounted at and below a path read-only for the calling process, whose mounts are its own. Raises
    ``OSError``."""
    flags = AT_RECURSIVE
    libc("syscall", SYS_MOUNT_SETATTR, AT_FDCWD, os.fsencode(path), flags, READ_ONLY, len(READ_ONLY))


def put(tree: int, path: bytes) -> None:
    """Mount a copy at a path of the calling process's own mounts. Raises ``OSError``."""
    libc("syscall", SYS_MOVE_MOUNT, tree, b"", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH)
