"""What of the machine a program sees otherwise than it is: the operator's folders, and ``/tmp``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from runyard.core.house import Root
from runyard.node.home import AttemptFolder
from runyard.shim.isolation import EVERYTHING
from runyard.shim.view import TMP


@dataclass(frozen=True, slots=True)
class Lent:
    """The operator's folders, symbolic links followed; ``private_tmp``: each program has a ``/tmp`` of its own;
    ``hidden``: folders that no program sees; ``sealed``: programs have the node's own user id, and can write
    only where they are to; ``missing``: sentences on what this machine gives to no program;
    ``open_calls``: system calls that the operator leaves open."""

    roots: tuple[Root, ...] = ()
    private_tmp: bool = False
    hidden: tuple[str, ...] = ()
    sealed: bool = False
    missing: tuple[str, ...] = ()
    open_calls: tuple[str, ...] = ()

    def words(self, folder: AttemptFolder, own: Sequence[str], fixed: Sequence[str]) -> dict[str, object]:
        """What a shim's order says of it. ``fixed``: the folders among these that the run was given; ``own``: folders
        of the node's own in which programs write, wherever they lie."""
        closed = [root.path for root in self.roots if not root.writable]
        if not closed and not self.sealed:
            return {"fixed": list(fixed), "read_only": [], "writable": [], "tmp": self._tmp(folder)}
        open_ = [*(root.path for root in self.roots if root.writable), *map(os.path.realpath, own)]
        if self.sealed:
            closed, within = [EVERYTHING], [*open_, *TMP]
            return {"fixed": list(fixed), "read_only": closed, "writable": within, "tmp": self._tmp(folder)}
        within = [path for path in open_ if any(_is_within(path, root) for root in closed)]
        return {
            "fixed": list(fixed),
            "read_only": closed,
            "writable": within,
            "tmp": self._tmp(folder),
        }

    def visible(self) -> list[str]:
        """The roots, where they may lie in a folder that is hidden."""
        return [root.path for root in self.roots] if self.sealed else []

    def _tmp(self, folder: AttemptFolder) -> str | None:
        return f"{folder.own}/tmp" if self.private_tmp else None


NOTHING_LENT = Lent()


def resolved(roots: Sequence[Root]) -> tuple[Root, ...]:
    """Roots with symbolic links followed, outer ones first."""
    found = {os.path.realpath(root.path): root.writable for root in roots}
    return tuple(Root(path, writable) for path, writable in sorted(found.items()))


def _is_within(path: str, root: str) -> bool:
    return (path + "/").startswith(root.rstrip("/") + "/")
