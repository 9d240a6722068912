"""The interpreter of a program: where it is, what of the disk it needs, and what else its program is told."""

from __future__ import annotations

import os
import platform
import site
import sys

import msgspec

import runyard
from runyard.node.home import make_folder, write_whole

PACKAGE = os.path.dirname(os.path.abspath(runyard.__file__))
RECORDER = PACKAGE + "/recorder/path"
"""A folder with nothing but ``runyard.py``, for environments that do not have this distribution."""


class Interpreter(msgspec.Struct, frozen=True):
    """A Python that programs find as ``python`` and ``python3``.

    ``folder`` comes first in ``PATH`` (it may be several, with colons); ``visible`` are the paths that it needs;
    ``search`` ends ``PYTHONPATH``; ``prefix`` is the environment's folder, None for the node's own. ``executable``,
    ``python`` (version) and ``sites`` (site-packages, those that come first in front) describe it; ``relies_on``: paths
    without which it is another one.
    """

    folder: str
    visible: tuple[str, ...]
    executable: str = ""
    python: str = ""
    sites: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    prefix: str | None = None
    conda: bool = False
    relies_on: tuple[str, ...] = ()

    def is_whole(self) -> bool:
        """Whether all that it relies on is still there."""
        return all(os.path.lexists(path) for path in self.relies_on)

    def variables(self) -> dict[str, str]:
        """What activating the environment sets, beside ``PATH``."""
        if self.prefix is None:
            return {}
        return {"CONDA_PREFIX" if self.conda else "VIRTUAL_ENV": self.prefix}


def find_interpreter(root: str, executable: str = sys.executable) -> Interpreter:
    """The interpreter that runs this node. Where its folder has no ``python``, a folder below ``root`` gets one that
    calls it: a link would make a virtual environment forget its packages."""
    folder = os.path.dirname(executable)
    prefixes = {os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    visible = sorted(  # the package, since the program may `import runyard`
        prefixes | {sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(executable)), PACKAGE}
    )
    if not all(os.path.exists(f"{folder}/{name}") for name in ("python", "python3")):
        folder = calling_folder(root + "/bin", executable)
        visible.append(folder)
    return Interpreter(folder, tuple(visible), executable, platform.python_version(), own_sites())


def own_sites() -> tuple[str, ...]:
    """Where the packages of this process's interpreter lie, those of its user left out: programs have another home."""
    of_user = site.getusersitepackages()
    names = ("site-packages", "dist-packages")
    return tuple(
        path for path in sys.path if os.path.basename(path) in names and path != of_user and os.path.isdir(path)
    )


def calling_folder(folder: str, executable: str) -> str:
    """Make a folder with ``python`` and ``python3`` that call an interpreter of another name; returns it."""
    make_folder(folder, 0o755)
    for name in ("python", "python3"):
        write_whole(f"{folder}/{name}", f'#!/bin/sh\nexec "{executable}" "$@"\n'.encode())
        os.chmod(f"{folder}/{name}", 0o755)
    return folder
