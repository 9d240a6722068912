"""Files of one view for another: the same inode where no program can write to it, else a copy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from stat import S_ISREG

from runyard.node.shelves import Source
from runyard.stores.errors import StoreError
from runyard.stores.local_files import copy
from runyard.wire.orders import Item

FILE = 0o444
"""Mode of a file in a view."""


def may_link() -> bool:
    """Whether programs run under another user id than the node, so that none can write to a file of its."""
    return os.geteuid() == 0


def take_all(sources: Mapping[str, Source], items: Mapping[str, Item], target: str, *, link: bool) -> dict[str, bool]:
    """Put what is in ``sources`` (by key) into the folder ``target``, whose folders are there.

    Returns the keys that are there now, and whether each took room on the disk. What is not, or not as it should be,
    is left to be fetched. Raises ``OSError`` for a full disk.
    """
    taken: dict[str, bool] = {}
    for key, source in sources.items():
        path = f"{target}/{key}"
        if link and _linked(source.path, path, items[key].size):
            taken[key] = False
        elif _copied(source, path, items[key].size, trusted=link):
            taken[key] = True
    return taken


def _linked(source: str, path: str, size: int) -> bool:
    try:
        facts = os.lstat(source)
        if not S_ISREG(facts.st_mode) or facts.st_size != size:
            return False
        os.link(source, path)
    except OSError:  # gone meanwhile, or linked as often as the file system lets
        return False
    return True


def _copied(source: Source, path: str, size: int, *, trusted: bool) -> bool:
    try:
        origin = os.open(source.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        facts = os.fstat(origin)
        if not S_ISREG(facts.st_mode) or facts.st_size != size:
            return False
        if not trusted and facts.st_ctime_ns > source.sealed_ns:
            return False  # a program of the same user has been at it
        copy_to(origin, path, size)
    except StoreError:
        os.unlink(path)
        return False
    finally:
        os.close(origin)
    return True


def copy_to(origin: int, path: str, size: int) -> None:
    """A new file with the first bytes of another, by reference where the file system can."""
    made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        copy(origin, made, size)
        os.fchmod(made, FILE)
    finally:
        os.close(made)


def own_bytes(root: str) -> int:
    """Bytes of the files below a folder that no other folder has."""
    total = 0
    for place, _, names in os.walk(root):
        for name in names:
            facts = os.lstat(f"{place}/{name}")
            if S_ISREG(facts.st_mode) and facts.st_nlink == 1:
                total += facts.st_size
    return total
