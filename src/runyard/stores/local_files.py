"""The local side of a transfer: files given as a path or as an open descriptor, read and written at offsets."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

from runyard.stores.errors import StoreError
from runyard.stores.place import Target

_COPY = 64 << 20
_SIP = 1 << 20
_CANNOT_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM, errno.ETXTBSY)
"""What the kernel answers where it cannot copy between two files by itself."""


@contextmanager
def open_target(target: Target, size: int) -> Generator[int, None, None]:
    """A descriptor to write ``size`` bytes to; the file is made when it is a path, and has that size afterwards."""
    if isinstance(target, int):
        os.ftruncate(target, size)
        yield target
        return
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.ftruncate(fd, size)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def open_source(source: Target) -> Generator[int, None, None]:
    """A descriptor to read from."""
    if isinstance(source, int):
        yield source
        return
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def write_all(fd: int, content: bytes | memoryview, at: int) -> None:
    """Write everything at an offset."""
    view = memoryview(content)
    while view:
        written = os.pwrite(fd, view, at)
        view, at = view[written:], at + written


def pieces(fd: int, size: int, piece: int) -> Iterator[bytes]:
    """The first ``size`` bytes in pieces of ``piece`` bytes, the last one shorter.

    Raises :class:`StoreError` (``changed``) when the file is shorter than that.
    """
    at = 0
    while at < size:
        content = read_full(fd, min(piece, size - at), at)
        yield content
        at += len(content)


def read_full(fd: int, count: int, at: int) -> bytes:
    """Exactly ``count`` bytes from an offset, or :class:`StoreError` (``changed``)."""
    content = os.pread(fd, count, at)
    while len(content) < count:
        more = os.pread(fd, count - len(content), at + len(content))
        if not more:
            raise StoreError("changed", "The local file became shorter while it was being stored.")
        content += more
    return content


def copy(source: int, target: int, size: int, on_bytes: Callable[[int], None] | None = None) -> None:
    """Copy the first ``size`` bytes from file to file, by reference where the file system can.

    Raises :class:`StoreError` (``changed``) when the source is shorter.
    """
    at = 0
    while at < size:
        count = _copy_some(source, target, min(_COPY, size - at), at)
        at += count
        if on_bytes:
            on_bytes(count)


def _copy_some(source: int, target: int, count: int, at: int) -> int:
    try:
        if copied := os.copy_file_range(source, target, count, at, at):
            return copied
    except OSError as error:
        if error.errno not in _CANNOT_COPY:
            raise
    content = read_full(source, min(count, _SIP), at)
    write_all(target, content, at)
    return len(content)
