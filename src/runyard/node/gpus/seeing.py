"""What the node asks of a driver of GPUs, and of the kernel about the processes that it names."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from runyard.core.gpus import Holder, Sight

FIRST_PIDS: Final = "pid:[4026531836]"
"""The PID namespace of the machine itself (``PROC_PID_INIT_INO``, linux/proc_ns.h): the driver's numbers are its."""

ERRORS: Final = "gpus-with-errors.json"
"""Below the node's home: the GPUs that are kept back until they are put back."""


class Unseen(Exception):
    """The driver does not tell of a GPU; the words say why."""


@dataclass(frozen=True, slots=True)
class Xid:
    """An error that a GPU has reported: its place among the devices, and the number of the error."""

    index: int
    number: int


class Gpus(Protocol):
    """GPUs by their numbers, as :class:`runyard.node.inventory.Device` has them. May be used from several threads."""

    def look(self, index: int) -> Sight:
        """A GPU as it is now; of its holders the pid and the size alone. Raises :class:`Unseen`."""
        ...

    def wait(self, timeout_s: float) -> Xid | None:
        """The next error that any of them reports, None after the timeout. Raises :class:`Unseen` where errors cannot
        be waited for."""
        ...


def knows_pids() -> bool:
    """Whether a driver's process numbers are those of ``/proc`` here."""
    try:
        return os.readlink("/proc/self/ns/pid") == FIRST_PIDS
    except OSError:
        return False


def told_apart(holder: Holder, runs: Collection[str], *, pids_known: bool) -> Holder:
    """A holder with what the kernel says of it. ``runs``: those of this node that live."""
    folder = f"/proc/{holder.pid}"
    if not pids_known or not os.path.isdir(folder):
        return Holder(holder.pid, holder.size, seen=False)
    name, ours = "", False
    with suppress(OSError), open(f"{folder}/comm", encoding="utf-8", errors="replace") as file:
        name = file.read().strip()
    with suppress(OSError), open(f"{folder}/environ", "rb") as file:
        marks = [each[12:].decode("ascii", "replace") for each in file.read().split(b"\0") if each[:12] == _MARK]
        ours = any(mark in runs for mark in marks)
    return Holder(holder.pid, holder.size, name, ours)


_MARK: Final = b"TRAINING_ID="
