"""Reading folders that a program wrote: what they hold, and nothing outside them.

A node may be root, so a link to /etc/shadow in ``RESULT_DIR`` must lead nowhere, a FIFO must not hold it up, and a
folder that becomes a link between two looks must not matter. Every path is opened below an open folder by openat2(2)
with RESOLVE_BENEATH; kernels before 5.6 get a walk that follows no link at all.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from runyard.shim.lean import libc

SYS_OPENAT2 = 437
RESOLVE_NO_MAGICLINKS, RESOLVE_BENEATH = 0x02, 0x08
_HOW = struct.Struct("=QQQ")
MOST_DEPTH = 100


@dataclass(frozen=True, slots=True)
class Found:
    """A plain file. ``path`` is relative, its parts separated by ``/``; times in nanoseconds since 1970.

    ``changed_ns`` is the inode's own time of change, which no program can set back.
    """

    path: str
    size: int
    modified_ns: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that is not read, and why."""

    path: str
    why: str


class Tree:
    """A folder of a program, open. ``owner``: files of other users than this one are not read (None: no matter)."""

    def __init__(self, trusted: str, inside: str, owner: int | None = None) -> None:
        """``trusted`` is a folder of the node's own, ``inside`` a path below it that the program may have replaced.

        Raises ``OSError`` when there is no such folder.
        """
        base = os.open(trusted, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._root = open_beneath(base, inside, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        finally:
            os.close(base)
        self._trusted, self._inside = trusted, inside
        self._owner = owner

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._root)

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def folder(self, path: str) -> int:
        """A descriptor of a folder of it, no link. Raises ``OSError``; as :meth:`open` does for one of another user."""
        descriptor = open_beneath(self._root, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        if self._owner is not None and os.fstat(descriptor).st_uid != self._owner:
            os.close(descriptor)
            raise OSError(errno.EPERM, "it belongs to another user", path)
        return descriptor

    def walk(self, folder: str = "") -> Iterator[Found | LeftOut]:
        """Every file below a folder of it, in the order of their names, links to files inside it included."""
        yield from self._walk(folder.strip("/"), 0)

    def _walk(self, folder: str, depth: int) -> Iterator[Found | LeftOut]:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        try:
            descriptor = open_beneath(self._root, folder, flags) if folder else self._root
        except OSError as error:
            yield LeftOut(folder, f"the folder cannot be read: {error.strerror}")
            return
        try:
            entries = sorted(os.scandir(descriptor), key=lambda entry: entry.name)
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if not entry.is_dir(follow_symlinks=False):
                    yield self._plain(path, entry) or self._look(path, is_link=entry.is_symlink())
                elif depth >= MOST_DEPTH:
                    yield LeftOut(path, "it lies too deep")
                else:
                    yield from self._walk(path, depth + 1)
        finally:
            if folder:
                os.close(descriptor)

    def _plain(self, path: str, entry: os.DirEntry[str]) -> Found | None:
        """A plain file of the owner's, which root may read in any case, without opening it; None: look closer."""
        if not _Kernel.is_root or not path.isascii():
            return None
        try:
            facts = entry.stat(follow_symlinks=False)
        except OSError:
            return None
        if not stat.S_ISREG(facts.st_mode) or (self._owner is not None and facts.st_uid != self._owner):
            return None
        return Found(path, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)

    def _look(self, path: str, *, is_link: bool) -> Found | LeftOut:
        try:
            path.encode()
        except UnicodeEncodeError:
            return LeftOut(path.encode(errors="backslashreplace").decode(), "its name is not valid UTF-8")
        try:
            descriptor = self.open(path)
        except OSError as error:
            return LeftOut(path, _why(error, is_link=is_link))
        try:
            facts = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        return Found(path, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)

    def open(self, path: str) -> int:
        """A descriptor to read a plain file of it. Raises ``OSError`` for anything else."""
        descriptor = self._open_inside(path)
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a plain file", path)
        if self._owner is not None and facts.st_uid != self._owner:
            os.close(descriptor)
            raise OSError(errno.EPERM, "it belongs to another user", path)
        return descriptor

    def _open_inside(self, path: str) -> int:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
        try:
            return open_beneath(self._root, path, flags)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.ELOOP):
                raise
            return open_beneath(self._root, self._inner_target(path, error), flags)

    def _inner_target(self, path: str, refused: OSError) -> str:
        """Where an absolute link leads, when that is inside: openat2 refuses all absolute ones."""
        try:
            target = os.readlink(path, dir_fd=self._root)
        except OSError:
            raise refused from None
        for trusted in (self._trusted, os.path.realpath(self._trusted)):
            prefix = f"{trusted}/{self._inside}/"
            if target.startswith(prefix):
                return target.removeprefix(prefix)
        raise refused


def _why(error: OSError, *, is_link: bool) -> str:
    if is_link and error.errno in (errno.EXDEV, errno.ELOOP):
        return "it is a link that leads outside"
    if is_link and error.errno == errno.ENOENT:
        return "it is a link that leads nowhere"
    if is_link and error.errno == errno.EINVAL:
        return "it is a link to something else than a file"
    return {errno.EINVAL: "it is not a plain file", errno.ENXIO: "it is not a plain file"}.get(
        error.errno or 0, error.strerror or "it cannot be read"
    )


MOST_RACES = 16
"""openat2 asks to be called again when folders moved under it; a program that keeps moving them is not followed."""


class _Kernel:
    """Whether openat2 is to be had, found out once; whether this is root, who may open everything."""

    has_openat2 = True
    is_root = os.geteuid() == 0


def open_beneath(folder: int, path: str, flags: int) -> int:
    """Open a path below an open folder, never leaving it. Raises ``OSError``: EXDEV or ELOOP for what leads outside."""
    flags |= os.O_CLOEXEC
    how = _HOW.pack(flags, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
    for _ in range(MOST_RACES if _Kernel.has_openat2 else 0):
        try:
            return libc("syscall", SYS_OPENAT2, folder, os.fsencode(path), how, len(how))
        except OSError as error:
            if error.errno == errno.ENOSYS:
                _Kernel.has_openat2 = False
                break
            if error.errno != errno.EAGAIN:
                raise OSError(error.errno, error.strerror, path) from None
    return open_step_by_step(folder, path, flags)


def open_step_by_step(folder: int, path: str, flags: int) -> int:
    """The same, following no link at all."""
    *folders, last = [part for part in path.split("/") if part not in ("", ".")] or ["."]
    if ".." in folders or last == "..":
        raise OSError(errno.EXDEV, "it leads outside", path)
    held = os.dup(folder)
    try:
        for part in folders:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=held)
            os.close(held)
            held = below
        return os.open(last, flags | os.O_NOFOLLOW, dir_fd=held)
    finally:
        os.close(held)
