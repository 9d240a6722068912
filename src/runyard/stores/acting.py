"""Files touched as another user: by one thread of a process that runs as root, for a moment.

The kernel checks what a thread may do with files by its file-system ids and its groups, and takes root's rights over
files from a thread whose file-system id is not root's: setfsuid(2), capabilities(7), "Effect of user ID changes". The
C library's setgroups(3) would change all threads, so the system calls are made directly.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from runyard.core.house import User

if TYPE_CHECKING:
    import ctypes

NUMBERS = {"x86_64": (116, 122, 123), "aarch64": (159, 151, 152)}
"""setgroups, setfsuid, setfsgid."""


@contextmanager
def acting_as(user: User | None) -> Generator[None, None, None]:
    """Within, this thread touches files as ``user`` would; None, or where this process is not root: as itself.

    Raises ``OSError`` where it cannot become that user.
    """
    if user is None or os.geteuid() != 0:
        yield
        return
    before = os.getgroups()
    try:
        _take(user.uid, user.gid, user.groups)
        yield
    finally:
        _take(0, os.getegid(), before)


def _take(uid: int, gid: int, groups: list[int] | tuple[int, ...]) -> None:
    set_groups, set_user, set_group = NUMBERS[os.uname().machine]
    libc, array = _libc(len(groups))
    if uid == 0:
        libc.syscall(set_user, 0)
    if libc.syscall(set_groups, len(groups), array(*groups)) != 0:
        raise PermissionError(1, "the groups of a member cannot be taken on")
    libc.syscall(set_group, gid)
    libc.syscall(set_user, uid)
    if (libc.syscall(set_user, -1), libc.syscall(set_group, -1)) != (uid, gid):
        raise PermissionError(1, "the user of a member cannot be taken on")


@cache
def _libc(groups: int) -> tuple[ctypes.CDLL, type[ctypes.Array[ctypes.c_uint]]]:
    import ctypes  # noqa: PLC0415 - start-up time of all that acts as nobody else

    return ctypes.CDLL(None, use_errno=True), ctypes.c_uint * groups
