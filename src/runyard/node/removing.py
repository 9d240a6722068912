"""Folders of the node that are to go: out of their place at once, off the disk when there is time."""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import threading
import time
from collections import deque

from runyard.node.cache import remove_tree
from runyard.node.home import Home, say
from runyard.node.lanes import do_safely

QUIET_S = 0.5
"""Nothing more was discarded for so long: programs do not follow each other just now, and the disk has time."""
LONGEST_S = 30.0
"""No folder waits longer than this."""
MOST_WAITING = 2000
LEAST_FREE = 0.05
"""Of the disk: with less, everything is removed at once."""
LOOK_S = 0.1


class Removing:
    """One thread that removes. What a node that was killed left is removed by the next (:mod:`runyard.node.cache`)."""

    def __init__(self, home: Home) -> None:
        self._trash = home.root + "/cache/trash"
        self._prefix = secrets.token_hex(8)
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._waiting: deque[tuple[float, str]] = deque()
        self._last = 0.0
        self._started = False

    def discard(self, path: str) -> None:
        """Remove a folder, as one: nothing of it is at its place when this returns. Not there: nothing to do. Raises
        ``OSError``."""
        aside = f"{self._trash}/{self._prefix}-{next(self._numbers)}"
        try:
            os.rename(path, aside)
        except FileNotFoundError:
            return
        with self._changed:
            self._last = time.monotonic()
            self._waiting.append((self._last, aside))
            if not self._started:
                self._started = True
                threading.Thread(target=self._work, name="trash", daemon=True).start()
            if len(self._waiting) == 1:
                self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                since = self._waiting[0][0]
            while not self._is_time(since):
                time.sleep(LOOK_S)
            with self._changed:
                path = self._waiting.popleft()[1]
            do_safely(lambda path=path: self._remove(path))

    def _is_time(self, since: float) -> bool:
        """Whether the folder that was discarded first, at ``since``, is to be removed now."""
        now = time.monotonic()
        waited_for = now - self._last >= QUIET_S or now - since >= LONGEST_S or len(self._waiting) > MOST_WAITING
        return waited_for or self._is_short()

    def _is_short(self) -> bool:
        disk = os.statvfs(self._trash)
        return disk.f_bavail < disk.f_blocks * LEAST_FREE

    def _remove(self, path: str) -> None:
        try:
            remove_plain(path)
        except OSError:
            try:
                remove_tree(path)  # its owner has closed something, or is still at it
            except OSError as error:
                say(f"{path} cannot be removed: {error}")


def remove_plain(path: str, beside: int | None = None) -> None:
    """Remove a folder that nobody closed, by as few calls as can be; ``beside``: the folder that ``path`` is a name in.
    Links are removed, not followed. Raises ``OSError``, with part of it gone."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=beside)
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_folder in found:
            if not is_folder:
                os.unlink(name, dir_fd=folder)
            elif not _was_empty(name, folder):
                remove_plain(name, folder)
    finally:
        os.close(folder)
    os.rmdir(path, dir_fd=beside)


def _was_empty(name: str, beside: int) -> bool:
    """Remove a folder if that takes no more than the call: half of a run's are empty."""
    try:
        os.rmdir(name, dir_fd=beside)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True
