"""Word from the kernel that files grow (inotify(7)), without a library."""

from __future__ import annotations

import errno
import os
import struct

from runyard.shim.lean import libc

IN_MODIFY, IN_MOVED_TO, IN_CREATE, IN_Q_OVERFLOW, IN_IGNORED = 0x2, 0x80, 0x100, 0x4000, 0x8000
IN_ONLYDIR = 0x01000000
IN_ONESHOT = 0x80000000
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name after it


class Inotify:
    """A descriptor that is readable when something has happened to what is watched."""

    def __init__(self) -> None:
        self.fd = libc("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)

    def add(self, path: str, mask: int = IN_MODIFY) -> int | None:
        """Watch what is there; returns the watch's number, None when the user has no watches left. What is watched
        already keeps its number and takes the new mask."""
        try:
            return libc("inotify_add_watch", self.fd, os.fsencode(path), mask)
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
        """The watches to which something happened since the last call."""
        return set(self.events())

    def events(self) -> dict[int, int]:
        """The same, with what happened: masks, all of a watch put together. Watch -1: events were lost."""
        try:
            content = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return {}
        found: dict[int, int] = {}
        at = 0
        while at < len(content):
            watch, mask, _, length = _EVENT.unpack_from(content, at)
            at += _EVENT.size + length
            if not mask & IN_IGNORED:
                found[watch] = found.get(watch, 0) | mask
        return found
