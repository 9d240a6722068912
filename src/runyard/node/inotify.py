"""Word from the kernel that files grow (inotify(7)), without a library."""

from __future__ import annotations

import errno
import os
import struct

from runyard.shim.lean import libc

IN_MODIFY = 0x2
IN_IGNORED = 0x8000
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name after it


class Inotify:
    """A descriptor that is readable when a watched file has grown."""

    def __init__(self) -> None:
        self.fd = libc("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)

    def add(self, path: str) -> int | None:
        """Watch a file that is there; returns the watch's number, None when the user has no watches left."""
        try:
            return libc("inotify_add_watch", self.fd, os.fsencode(path), IN_MODIFY)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.ENOMEM):
                return None
            raise

    def remove(self, watch: int) -> None:
        """Watch it no longer."""
        try:
            libc("inotify_rm_watch", self.fd, watch)
        except OSError:
            pass  # the file went, and the watch with it

    def changed(self) -> set[int]:
        """The watches of the files that grew since the last call."""
        try:
            content = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return set()
        found: set[int] = set()
        at = 0
        while at < len(content):
            watch, mask, _, length = _EVENT.unpack_from(content, at)
            at += _EVENT.size + length
            if not mask & IN_IGNORED:
                found.add(watch)
        return found
