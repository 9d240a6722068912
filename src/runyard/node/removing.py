"""Folders of the node that are to go: out of their place at once, off the disk when there is time."""

from __future__ import annotations

import itertools
import os
import secrets

from runyard.node.cache import remove_tree
from runyard.node.home import Home, say
from runyard.node.lanes import Crew


class Removing:
    """One thread that removes. What a node that was killed left is removed by the next (:mod:`runyard.node.cache`)."""

    def __init__(self, home: Home) -> None:
        self._trash = home.root + "/cache/trash"
        self._prefix = secrets.token_hex(8)
        self._numbers = itertools.count()
        self._crew = Crew("trash", 1)

    def discard(self, path: str) -> None:
        """Remove a folder, as one: nothing of it is at its place when this returns. Not there: nothing to do. Raises
        ``OSError``."""
        aside = f"{self._trash}/{self._prefix}-{next(self._numbers)}"
        try:
            os.rename(path, aside)
        except FileNotFoundError:
            return
        self._crew.put(lambda: self._remove(aside))

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
            found = list(entries)
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                remove_plain(entry.name, folder)
            else:
                os.unlink(entry.name, dir_fd=folder)
    finally:
        os.close(folder)
    os.rmdir(path, dir_fd=beside)
