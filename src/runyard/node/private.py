"""What a program must be kept from where it has the node's own user id, which is no wall: the node is not root there,
and mounts of the program's own have to do what user ids do elsewhere."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from runyard.core.house import Root


def private_folders(
    own: Iterable[str], roots: Sequence[Root], environment: Mapping[str, str], user: int | None = None
) -> tuple[str, ...]:
    """The folders that no program sees: the service's ``own``, and what the node's user keeps to itself.

    The user's home (keys, start-up files of shells) and its folder of run time (the sockets by which its services are
    commanded) are left out where the operator lends them, or what they lie in, as a root.
    """
    uid = os.geteuid() if user is None else user
    theirs = [environment.get("HOME", ""), environment.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}", _home(uid)]
    lent = [os.path.realpath(root.path) for root in roots]
    found = [os.path.realpath(path) for path in own]
    for path in (os.path.realpath(path) for path in theirs if path.startswith("/")):
        if not any(_is_within(path, root) for root in lent) and _is_theirs(path, uid):
            found.append(path)
    return tuple(dict.fromkeys(path for path in found if path != "/"))


def _home(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return ""


def _is_theirs(path: str, uid: int) -> bool:
    """A folder of the system that is a service's home, such as ``/var``, is not hidden."""
    try:
        return os.stat(path).st_uid == uid and os.path.isdir(path)
    except OSError:
        return False


def _is_within(path: str, folder: str) -> bool:
    return (path + "/").startswith(folder.rstrip("/") + "/")


def private_sockets(table: str = "/proc/net/unix") -> list[str]:
    """Sockets of the machine that the node's user or groups may command and not everybody may (a container engine's,
    for one): unix(7), of which the kernel lists the bound ones."""
    try:
        with open(table, encoding="utf-8", errors="surrogateescape") as file:
            paths = {line.rstrip("\n").partition(" /")[2] for line in file}
    except OSError:
        return []
    return sorted(path for path in ("/" + rest for rest in paths if rest) if _is_private(path))


def _is_private(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False  # gone, or of another mount namespace
    return stat.S_ISSOCK(mode) and not mode & stat.S_IWOTH and os.access(path, os.W_OK)


def linked_folders(sites: Sequence[str]) -> tuple[str, ...]:
    """Folders that the packages of an interpreter lead to, as those of an editable installation do (``.pth`` files;
    the documentation of ``site``)."""
    return _linked(tuple((site, _changed(site)) for site in sites))


@lru_cache(maxsize=64)
def _linked(sites: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for site, _ in sites:
        for name in _names(site):
            with open(f"{site}/{name}", encoding="utf-8", errors="surrogateescape") as file:
                lines = [line.strip() for line in file]
            found.update(dict.fromkeys(line for line in lines if line.startswith("/") and os.path.isdir(line)))
    return tuple(found)


def _names(site: str) -> list[str]:
    try:
        return sorted(
            name for name in os.listdir(site) if name.endswith(".pth") and os.access(f"{site}/{name}", os.R_OK)
        )
    except OSError:
        return []


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
