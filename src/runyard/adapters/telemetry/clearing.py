"""Removing some of the files of a run: logs and metrics lie in the same folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress


def clear(folder: str, ours: Callable[[str], bool]) -> None:
    """Remove the files at or below a folder whose names are ``ours``, then the folders that are empty."""
    for path, _folders, files in os.walk(folder, topdown=False):
        for name in files:
            if ours(name):
                with suppress(FileNotFoundError):
                    os.unlink(f"{path}/{name}")
        with suppress(OSError):  # there is something else in it
            os.rmdir(path)
