"""What lies in the server's folders, in blocks on the disk."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from runyard.ports.disk import Space, Taken

_RUN: Final = re.compile(r"training-[A-Za-z0-9_-]+")
_METRICS: Final = ("metrics", "metric-")
"""How the names of the files of metrics begin (:mod:`runyard.adapters.telemetry.metrics`)."""


class ServerDisk:
    """A :class:`runyard.ports.disk.Disk` over the folder of a server. Links are not followed."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def space(self) -> Space:
        """See :class:`runyard.ports.disk.Disk`."""
        facts = os.statvfs(self._home)
        return Space(facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize)

    def of_run(self, run_id: str) -> Mapping[str, int]:
        """See :class:`runyard.ports.disk.Disk`."""
        sizes: Counter[str] = Counter()
        for path, size in _files(str(self._home / "logs" / run_id)):
            sizes["metrics" if os.path.basename(path).startswith(_METRICS) else "logs"] += size
        return sizes

    def taken(self) -> Iterator[Taken]:
        """See :class:`runyard.ports.disk.Disk`."""
        for run_id in _names(self._home / "logs"):
            for kind, size in self.of_run(run_id).items():
                yield Taken(kind, size, run=run_id)
        for account in _names(self._home / "store"):
            yield from self._stored(account)
        definitions = sum(size for _, size in _files(str(self._home / "definitions")))
        yield Taken("definitions", definitions)
        beside = [each for each in _names(self._home) if each.startswith(("runyard.db", "before"))]
        database = sum(size for name in beside for _, size in _files(str(self._home / name)))
        yield Taken("database", database)

    def _stored(self, account: str) -> Iterator[Taken]:
        """An account's objects: a run's results lie below its id, whatever prefix stands before that."""
        root = str(self._home / "store" / account)
        owner = "" if account.startswith(".") else account
        sizes: Counter[str] = Counter()
        for path, size in _files(root):
            parts = path[len(root) + 1 :].split("/")
            sizes[next((part for part in parts[1:-1] if _RUN.fullmatch(part)), "")] += size
        for run_id, size in sizes.items():
            yield Taken("results" if run_id else "data", size, owner, run_id)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []  # nothing was ever kept there


def _files(path: str) -> Iterator[tuple[str, int]]:
    """Every file at or below a path, with its bytes on the disk, shared among its names; what goes meanwhile is passed
    over."""
    folders = [path]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except NotADirectoryError:
            yield folder, os.lstat(folder).st_blocks * 512
            continue
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
                continue
            try:
                facts = entry.stat(follow_symlinks=False)
                yield entry.path, facts.st_blocks * 512 // max(1, facts.st_nlink)
            except OSError:
                continue
