"""The control groups of a warm shim's programs: one program after another is in the same one, where it is as new then.

To make a group and to remove it costs the machine some 1.5 ms (the kernel's own threads included), to put a process
into one that is there hardly anything. A group belongs to a run until the end of that is on disk, as a cell does
(:mod:`runyard.shim.cells`): whoever acts upon the record of a run meets no other's processes. It is used again only in
version 1, where its peak can be set back, and only while it is empty, has killed nothing and holds next to nothing.
"""

import os

from runyard.shim import cgroups, processes

MOST_FREE = 8
MOST_HELD = 2 << 20
"""Bytes of memory that a group may hold when its program is gone, for another to be put into it: what each processor
keeps in hand (256 KiB), page tables that are about to go, pages of files that the program was the first to read or
write. The next one's peak may be told too high by as much."""
PREFIX = "shim-"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Key = tuple[tuple[str, object], ...]


class Groups:
    """All of one warm shim that are free, by their limits."""

    __slots__ = ("_count", "_free", "_keys")

    def __init__(self) -> None:
        self._free: list[cgroups.Group] = []
        self._keys: dict[str, Key] = {}
        """The limits of those that are in use or free, by name."""
        self._count = 0

    def take(self, above: str, limits: "Mapping[str, Any]") -> cgroups.Group:
        """A group in the folder ``above`` with these limits, in which nobody is. Never raises, as
        :func:`cgroups.create`."""
        key = tuple(sorted((name, value) for name, value in limits.items() if name != "name"))
        for group in self._free:
            if self._keys[group.name] == key and group.name.startswith(above + "/"):
                self._free.remove(group)
                return group
        self._count += 1
        group = cgroups.create(f"{above}/{PREFIX}{os.getpid()}-{processes.own_start_ticks()}-{self._count}", limits)
        self._keys[group.name] = key
        return group

    def is_as_new(self, group: cgroups.Group, kills: int) -> bool:
        """Whether another program may be in a group, its own one being gone, of which the kernel has killed so many
        processes."""
        if kills or group.missing or group.unified is not None or not group.folders:
            return False
        return all(map(_is_empty, group.folders)) and (group.memory is None or _is_light(group.memory))

    def give_back(self, group: cgroups.Group) -> None:
        """Nobody acts upon the record of its run any more."""
        self._free.append(group)
        self._keep(MOST_FREE)

    def remove(self, group: cgroups.Group) -> list[str]:
        """Remove one that is not free; returns folders that are still there."""
        self._keys.pop(group.name, None)
        return cgroups.remove(group.folders)

    def rest(self) -> None:
        """Nothing runs: keep one for the next program, and no more."""
        self._keep(1)

    def end(self) -> None:
        """No program follows."""
        above = {folder.rpartition("/")[0] for group in self._free for folder in group.folders}
        self._keep(0)
        for folder in above:
            try:
                os.rmdir(folder)
            except OSError:
                pass  # there are others in it

    def _keep(self, most: int) -> None:
        while len(self._free) > most:
            self.remove(self._free.pop(0))


def _is_empty(folder: str) -> bool:
    """Whether no process and no group is in a group."""
    try:
        return os.stat(folder).st_nlink == 2 and not processes.read(folder + "/cgroup.procs")
    except OSError:
        return False


def _is_light(folder: str) -> bool:
    """Whether a group of version 1 holds next to no memory; its peak begins anew then."""
    try:
        if int(processes.read(folder + "/memory.usage_in_bytes")) > MOST_HELD:
            return False
    except (OSError, ValueError):
        return False
    return cgroups.write(folder + "/memory.max_usage_in_bytes", "0") is None


def remove_left(above: str, shim: int | None = None) -> None:
    """Remove the groups of warm shims that are gone, in the folder ``above`` of each hierarchy; of those of the process
    ``shim``, which is gone, alone, where it is given. Those in which processes are stay."""
    for hierarchy in cgroups.hierarchies():
        for folder in (f"{base}/{above}" for base in hierarchy.bases):
            cgroups.remove(f"{folder}/{name}" for name in _names(folder) if _is_of_one_gone(name, shim))


def _names(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.startswith(PREFIX)]
    except OSError:
        return []


def _is_of_one_gone(name: str, shim: int | None) -> bool:
    pid, _, rest = name.removeprefix(PREFIX).partition("-")
    if shim is not None:
        return pid == str(shim)
    return pid.isdigit() and str(processes.start_ticks(int(pid), living=True)) != rest.partition("-")[0]
