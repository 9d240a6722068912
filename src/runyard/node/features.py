"""What this machine can do for a program beyond the ground, found out by trying it once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from typing import Final

import runyard.shim

SHIM: Final = os.path.join(os.path.dirname(os.path.abspath(runyard.shim.__file__)), "shim.py")
KNOWN: Final = ("shm", "network_off")
NAMESPACES: Final = ("user", "pid", "mount", "ipc")
ALONE: Final = "The program sees the processes of others, and files of other runs of its member."
OPEN: Final = (
    "The program has the node's own user id and nothing that parts them: it can read the service's files, other runs' "
    "among them, signal their processes, and write what is recorded of it."
)
_PATIENCE_S: Final = 20.0


def find_features() -> tuple[str, ...]:
    """The features that a shim started by this process could give."""
    found = _found()
    given = found if os.geteuid() == 0 or find_namespaces() == NAMESPACES else frozenset[str]()
    return tuple(name for name in KNOWN if name in given)


def find_namespaces() -> tuple[str, ...]:
    """The kinds of namespaces that a shim started by this process could have a program born in. ``user``: also somebody
    without privileges can make one."""
    found = _found()
    return tuple(name for name in NAMESPACES if name in found) if "pid" in found else ()


def missing_walls(namespaces: Sequence[str], user: int | None = None) -> tuple[str, ...]:
    """Sentences on what no program of this node has, for want of namespaces, and how to change it."""
    if "mount" in namespaces:
        return ()
    if (os.geteuid() if user is None else user) == 0:
        return (f"{ALONE} This machine gives the node no namespaces: is it a container without leave to mount?",)
    return (f"{OPEN} {why_none()}",)


def why_none(settings: str = "/proc/sys") -> str:
    """Why somebody without privileges can make no user namespace here, and how to change it. ``settings``: where the
    kernel's are."""
    if _setting(f"{settings}/user/max_user_namespaces") == "0":
        return "User namespaces are turned off here: `sysctl -w user.max_user_namespaces=15000` allows them."
    if _setting(f"{settings}/kernel/unprivileged_userns_clone") == "0":
        return "User namespaces are root's alone here: `sysctl -w kernel.unprivileged_userns_clone=1` changes that."
    if _setting(f"{settings}/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "AppArmor keeps user namespaces from programs without a profile: "
            f"one with `userns,` for {os.path.realpath(sys.executable)} lets the node make them, "
            "or `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` all programs."
        )
    return "This machine refuses user namespaces (a container does, as a rule): run the node as root, or outside of it."


def _setting(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def tried() -> frozenset[str]:
    """All that the shim's probe found to work here for this process."""
    return _found()


@cache
def _found() -> frozenset[str]:
    """What works here, tried once: the shim's own words."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-B", SHIM, "--probe"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return frozenset()
    return frozenset(done.stdout.decode().split())
