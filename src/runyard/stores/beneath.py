"""Files below a folder, reached name by name from its descriptor: no symbolic link or ``..`` leads out of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from stat import S_ISREG

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def closing(fd: int) -> Generator[int, None, None]:
    """Close a descriptor at the end."""
    try:
        yield fd
    finally:
        os.close(fd)


def open_folder(
    root: int,
    parts: Sequence[str],
    *,
    make: bool = False,
    owner: tuple[int, int] | None = None,
    sync: Callable[[int], None] = os.fsync,
) -> int:
    """A descriptor of the folder that ``parts`` lead to from the folder ``root``.

    With ``make``, missing ones are made, durably, and given to ``owner`` (a user and a group id); ``sync`` is called
    with a descriptor of each folder in which one was made. Raises ``OSError``; its number is ``ELOOP`` or ``ENOTDIR``
    when a part is no folder.
    """
    fd = os.open(".", _FOLDER, dir_fd=root)
    try:
        for part in parts:
            below = _step(fd, part, make, owner, sync)
            os.close(fd)
            fd = below
    except BaseException:
        os.close(fd)
        raise
    return fd


def _step(fd: int, part: str, make: bool, owner: tuple[int, int] | None, sync: Callable[[int], None]) -> int:
    try:
        return os.open(part, _FOLDER, dir_fd=fd)
    except FileNotFoundError:
        if not make:
            raise
    try:
        os.mkdir(part, 0o755, dir_fd=fd)
    except FileExistsError:  # another was faster
        return os.open(part, _FOLDER, dir_fd=fd)
    below = os.open(part, _FOLDER, dir_fd=fd)
    if owner:
        os.fchown(below, *owner)
    sync(fd)
    return below


def open_file(folder: int, name: str) -> int:
    """A descriptor to read a plain file. Raises ``OSError``; ``ELOOP`` when it is anything else."""
    # O_NONBLOCK: a pipe must not hold us until somebody writes to it.
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    if not S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotAFile(name)
    return fd


class NotAFile(OSError):
    """There is something by this name, but it is not a plain file."""


def walk(root: int, after: str = "", prefix: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """All plain files below a folder as (key, status) in the order of their keys.

    Only keys that start with ``prefix`` and sort after ``after``; folders that hold none are not read. Names that are
    not UTF-8 are passed over.
    """
    yield from _walk(root, "", after, prefix)


def _walk(folder: int, below: str, after: str, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        names = [
            (f"{below}{entry.name}/" if entry.is_dir(follow_symlinks=False) else below + entry.name)
            for entry in entries
        ]
    names.sort()
    for name in names:
        if name.endswith("/"):
            may_hold = name.startswith(prefix) or prefix.startswith(name)
            if may_hold and (name > after or after.startswith(name)):
                yield from _below(folder, name, after, prefix)
        elif name > after and name.startswith(prefix):
            yield from _file(folder, name)


def _below(folder: int, name: str, after: str, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        inner = os.open(os.path.basename(name[:-1]), _FOLDER, dir_fd=folder)
    except OSError:
        return  # removed, or replaced by a link, in the meantime
    with closing(inner):
        yield from _walk(inner, name, after, prefix)


def _file(folder: int, name: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        name.encode()
        status = os.stat(os.path.basename(name), dir_fd=folder, follow_symlinks=False)
    except (OSError, UnicodeEncodeError):
        return  # removed in the meantime; or a name that no key can have
    if S_ISREG(status.st_mode):
        yield name, status


def etag_of(status: os.stat_result) -> str:
    """An etag of a file, without quotes: it changes with the modification time (nanoseconds) or the size."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"
