"""Where ext4 puts what is made in a folder."""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress

_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
"""``_IOR('f', 1, long)`` and ``_IOW('f', 2, long)`` of linux/fs.h, where a long has 64 bits."""
TOP_OF_TREES = 0x20000
"""``FS_TOPDIR_FL`` of linux/fs.h: the folders in this one are no kin of each other (chattr(1), T)."""


def lay_apart(path: str | os.PathLike[str]) -> None:
    """Have the file system lay the folders that will be made in this one apart from each other, where it can.

    ext4 gives an inode away again only minutes after it was removed, and on its way to a free one looks at each that
    was removed in the same group (fs/ext4/ialloc.c, ``recently_deleted``). Where hundreds of runs have come and gone
    in one place, making a file takes five times as long as elsewhere.
    """
    with suppress(OSError):  # another file system, or a folder that is not ours
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(folder, _SET_FLAGS, struct.pack("q", flags(folder) | TOP_OF_TREES))
        finally:
            os.close(folder)


def flags(folder: int) -> int:
    """The attributes of an open file or folder (ioctl_iflags(2)). Raises ``OSError`` where it has none."""
    found: int = struct.unpack("q", fcntl.ioctl(folder, _GET_FLAGS, bytes(8)))[0]
    return found
