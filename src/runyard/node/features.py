"""What this machine can do for a program beyond the ground, found out by trying it once."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from typing import Final

import runyard.shim

SHIM: Final = os.path.join(os.path.dirname(os.path.abspath(runyard.shim.__file__)), "shim.py")
KNOWN: Final = ("shm", "network_off")
NAMESPACES: Final = ("user", "pid", "mount", "ipc")
_PATIENCE_S: Final = 20.0


def find_features() -> tuple[str, ...]:
    """The features that a shim started by this process could give. None without root."""
    found = _found() if os.geteuid() == 0 else frozenset[str]()
    return tuple(name for name in KNOWN if name in found)


def find_namespaces() -> tuple[str, ...]:
    """The kinds of namespaces that a shim started by this process could have a program born in. ``user``: also somebody
    without privileges can make one."""
    found = _found()
    return tuple(name for name in NAMESPACES if name in found) if "pid" in found else ()


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
