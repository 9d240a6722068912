"""What of the file system a program gets to see, where parents of its paths are closed to it, or folders are hidden.

A path that the program needs may lie below a folder that its user cannot pass, such as the interpreter of a pyenv or
a run's folder below /root (mode 0700); or in a folder that is to be hidden from it, since other programs of its user
have theirs there. In a mount namespace of its own, a small empty file system covers each such folder, and the needed
paths alone are bound into it (mount_namespaces(7), mount(2)).
"""

from __future__ import annotations  # for interpreters of environments, from 3.8 on

import os
import stat
from errno import EINVAL, ELOOP, ENOENT

from runyard.shim.lean import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
TMP = ("/tmp", "/var/tmp")
"""What programs take for their own, if it is not theirs."""
COVER = b"mode=0755,size=1m"


class Looked:
    """What was seen of paths when somebody last looked, for plans that follow each other within a moment: most of them
    are the same for all programs of a user. Only folders above paths count, in which no program can write."""

    __slots__ = ("_closed", "_plain", "_until")

    def __init__(self) -> None:
        self._until = 0
        self._plain: set[str] = set()
        self._closed: dict[tuple[str, int], bool] = {}

    def refresh(self, now: int, valid: int = 0) -> None:
        """Forget what was seen longer ago than that, in nanoseconds. To be called before each plan."""
        if now >= self._until:
            self._until = now + valid
            self._plain.clear()
            self._closed.clear()

    def real(self, path: str) -> str:
        """As :func:`os.path.realpath`."""
        folder, _, name = path.rpartition("/")
        if folder in self._plain and name not in ("", ".", ".."):
            return os.path.realpath(path) if os.path.islink(path) else path
        found = os.path.realpath(path)
        if found == path:
            while folder:
                self._plain.add(folder)
                folder = folder.rpartition("/")[0]
        return found

    def is_closed(self, folder: str, uid: int, gids: Sequence[int]) -> bool:
        """Whether a user cannot pass a folder, by owner, group and mode. Raises ``OSError``."""
        found = self._closed.get((folder, uid))
        if found is None:
            facts = os.stat(folder)
            bit = stat.S_IXUSR if facts.st_uid == uid else stat.S_IXGRP if facts.st_gid in gids else stat.S_IXOTH
            found = self._closed[folder, uid] = not facts.st_mode & bit
        return found


def plan(
    visible: Sequence[str],
    uid: int | None,
    gids: Sequence[int],
    hide: Sequence[str] = (),
    fixed: Sequence[str] = (),
    tmp: Sequence[str] = (),
    looked: Looked | None = None,
) -> dict[str, list[str]]:
    """The paths to bind, by the folder that is covered: the topmost one above them that this user cannot pass (None:
    there is none), or the innermost hidden one. Empty: nothing is covered.

    A path that is reached through symbolic links counts as itself and as what it leads to. One that lies within
    another is left out, unless what lies between hides it: it comes along. ``gids``: all groups of the user;
    ``fixed``: those of the paths that must not lead through symbolic links; ``tmp``: folders that are covered by one
    of the program's own, which is the first of their paths; ``looked``: what was seen by plans for the same user a
    moment ago.
    """
    looked = looked or Looked()
    tmp = [folder for folder in tmp if os.path.isdir(folder) and not os.path.islink(folder)]
    hide = [*tmp, *hide]
    hidden = list(dict.fromkeys(looked.real(folder) for folder in hide if os.path.isdir(folder)))
    closed: dict[str, set[str]] = {folder: set() for folder in hidden}
    for path in visible:
        for name in {os.path.normpath(path), path if path in fixed else looked.real(path)}:
            cover = max((folder for folder in hidden if _is_below(name, folder)), key=len, default=None)
            if cover is None and uid is not None:
                cover = barrier(name, uid, gids, looked)
            if cover is not None:
                closed.setdefault(cover, set()).add(name)
    for folder in hidden:
        within = any(_is_below(folder, other) for other in hidden)
        above = None if uid is None or within else barrier(folder, uid, gids, looked)
        if above is not None:
            closed.setdefault(above, set())
    planned = {folder: outermost(paths) for folder, paths in sorted(closed.items())}
    return {folder: [folder, *paths] if folder in tmp else paths for folder, paths in planned.items()}


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder + "/")


def barrier(path: str, uid: int, gids: Sequence[int], looked: Looked) -> str | None:
    """The topmost folder above a path that a user cannot pass; None: there is none, or no such path."""
    folder = "/"
    for part in path.strip("/").split("/"):
        try:
            if looked.is_closed(folder, uid, gids):
                return folder
        except OSError:
            return None
        folder = f"{folder.rstrip('/')}/{part}"
    return None


def outermost(paths: set[str]) -> list[str]:
    """Those of some paths that lie within none of the others."""
    kept: list[str] = []
    for path in sorted(paths):
        if not any(path.startswith(outer + "/") for outer in kept):
            kept.append(path)
    return kept


def make(closed: dict[str, list[str]]) -> None:
    """Carry a plan out for the calling process, as root. Raises ``OSError``; an empty plan makes no namespace."""
    if not closed:
        return
    own_mounts()
    cover(closed)


def cover(closed: dict[str, list[str]], sources: Mapping[str, str] | None = None) -> None:
    """The same for a process whose mounts are its own already: each folder is empty but for the paths below it.
    ``sources``: what some paths stand for (:func:`opened`)."""
    if "/" in closed:
        raise OSError(ENOENT, "the root folder itself is closed to this user", "/")
    # Opened before anything is covered, and inside the new namespace: a bind wants its source there.
    descriptors = {path: opened(path, sources or {}) for paths in closed.values() for path in paths}
    cover_with(closed, descriptors, _bind)


def sources(fixed: Sequence[str], tmp: str | None) -> dict[str, str]:
    """What lies behind paths of a plan that are not what they say, or must be nothing else."""
    found = {path: path for path in fixed}
    return found if tmp is None else found | dict.fromkeys(TMP, tmp)


def opened(path: str, sources: Mapping[str, str]) -> int:
    """A descriptor of what lies behind a path: itself, or what ``sources`` has for it, which must not lead through
    symbolic links. Raises ``OSError``."""
    source = sources.get(path)
    descriptor = os.open(path if source is None else source, os.O_PATH | os.O_CLOEXEC)
    if source == path and os.readlink(f"/proc/self/fd/{descriptor}") != path:
        os.close(descriptor)
        raise OSError(ELOOP, "it leads through a symbolic link by now", path)
    return descriptor


def cover_with(
    closed: Mapping[str, list[str]], descriptors: Mapping[str, int], bind: Callable[[int, bytes], object]
) -> None:
    """The same by ``bind``, which puts a descriptor in its place, for descriptors that are open already; closes
    them. Raises ``OSError``."""
    for folder, paths in closed.items():  # outer ones before inner ones
        if not os.path.isdir(folder):
            _mount_point(folder, True)  # it lies in one that has just been covered
        if folder in paths:
            bind(descriptors[folder], os.fsencode(folder))
        else:
            libc("mount", b"runyard", os.fsencode(folder), b"tmpfs", MS_NOSUID | MS_NODEV, COVER)
        for path in paths:
            if path == folder:
                continue
            _mount_point(path, stat.S_ISDIR(os.stat(descriptors[path]).st_mode))
            bind(descriptors[path], os.fsencode(path))
    for folder in [folder for folder, paths in closed.items() if folder not in paths]:
        libc("mount", b"runyard", os.fsencode(folder), None, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, COVER)
    for descriptor in descriptors.values():
        os.close(descriptor)


def _bind(descriptor: int, path: bytes) -> None:
    libc("mount", b"/proc/self/fd/%d" % descriptor, path, None, MS_BIND | MS_REC, None)


def own_mounts(born: bool = False) -> None:
    """Give the calling process mounts of its own, of which no other namespace hears; ``born``: it was born with a copy
    already. Raises ``OSError``."""
    if not born:
        libc("unshare", CLONE_NEWNS)
    try:
        _make_private()
    except OSError as error:
        if error.errno != EINVAL:
            raise
        # A root set by chroot(2) that is no mount point: the mounts have to be told at their own root.
        inside = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        _step_out()
        try:
            _make_private()
        finally:
            os.fchdir(inside)
            os.chroot(".")
            os.close(inside)


def _make_private() -> None:
    libc("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)


def _step_out() -> None:
    """Go to the root of the mounts, beyond a root that chroot(2) has set."""
    os.chdir("/")
    os.chroot("/proc")  # any folder below: what is above it is no longer barred
    while _identity(os.stat("..")) != _identity(os.stat(".")):
        os.chdir("..")
    os.chroot(".")


def _identity(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_dev, facts.st_ino


def _mount_point(path: str, folder: bool) -> None:
    os.makedirs(path if folder else os.path.dirname(path), 0o755, exist_ok=True)
    if not folder:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
