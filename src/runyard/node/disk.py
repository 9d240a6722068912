"""What a run takes on the disk: measured now and then while it runs, at a cost that is bounded."""

from __future__ import annotations

import os
import time

from runyard.node.home import Home
from runyard.node.sweep import open_beneath

SHARE = 20
"""A measurement that took a second is not repeated within so many: it takes at most a twentieth of a core."""


def space(trusted: str, inside: str) -> int:
    """Bytes of the disk that a folder takes, hard links once. ``trusted``: a folder of the node's own; ``inside``: one
    below it that a program writes, and may be changing now. Links are not followed, and nothing outside is looked at;
    what cannot be opened does not count."""
    try:
        base = os.open(trusted, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return 0
    total, linked, folders = 0, set[int](), [inside]
    try:
        while folders:
            path = folders.pop()
            try:
                total += _folder(base, path, folders, linked)
            except OSError:
                continue  # it went, or its path is too long
    finally:
        os.close(base)
    return total


def space_of_runs(home: Home) -> int:
    """Bytes of the disk that the folders of all runs take."""
    return sum(space(home.runs, run) for run in os.listdir(home.runs))


def _folder(base: int, path: str, folders: list[str], linked: set[int]) -> int:
    descriptor = open_beneath(base, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    total = 0
    try:
        for entry in os.scandir(descriptor):
            try:
                facts = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(f"{path}/{entry.name}")
            elif facts.st_nlink > 1 and facts.st_ino in linked:
                continue
            elif facts.st_nlink > 1:
                linked.add(facts.st_ino)
            total += facts.st_blocks * 512
    finally:
        os.close(descriptor)
    return total


class Measuring:
    """What one run takes, and when to measure it next. Times are those of ``time.monotonic``."""

    def __init__(self, home: Home, run: str, attempt: int, limit: int, every_s: float) -> None:
        self._home = home
        self._run = run
        self._attempt = attempt
        self._every_s = every_s
        self.limit = limit or half_of_the_disk(home.root)
        self.due = time.monotonic() + every_s
        self.used = 0

    def measure(self) -> None:
        """Add up what all learners have written, and the checkpoints."""
        began = time.monotonic()
        self.used = space(self._home.run(self._run), "checkpoints") + sum(
            space(folder.path, "own") for folder in self._home.learners(self._run, self._attempt)
        )
        ended = time.monotonic()
        self.due = ended + max(self._every_s, SHARE * (ended - began))


def half_of_the_disk(path: str) -> int:
    """Bytes: what a run may take where the operator has set no limit."""
    facts = os.statvfs(path)
    return facts.f_blocks * facts.f_frsize // 2


def disk_sentence(used: int, limit: int) -> str:
    """Why a program is stopped."""
    return (
        f"The run takes {gibibytes(used)} on the disk, over its limit of {gibibytes(limit)} (disk_limit_gib): "
        "it is stopped."
    )


def gibibytes(size: int) -> str:
    """Bytes for people."""
    return f"{size / (1 << 30):.3g} GiB" if size >= 1 << 30 else f"{size / (1 << 20):.3g} MiB"
