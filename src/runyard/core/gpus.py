"""What may be said of a GPU from what its driver tells: who holds its memory, and whether it is to be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

GIB: Final = 1 << 30
MOST_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds memory of a GPU. ``size``: bytes, None where the driver does not say; ``name``: as the
    kernel has it; ``ours``: it belongs to a run of this node; ``seen``: the process can be told from others here (a
    driver names processes by numbers that need not be those of the container that asks)."""

    pid: int
    size: int | None
    name: str = ""
    ours: bool = False
    seen: bool = True


@dataclass(frozen=True, slots=True)
class Sight:
    """A GPU at one moment. ``used``: bytes of its memory that are taken, the driver's own apart where it tells them
    apart; ``busy``: per cent of the time in which it computed of late, None where it is not told.

    ``uncorrected``: errors of its memory that could not be corrected since it was last reset; ``pending``: cells wait
    to be replaced, which a reset does; ``failed``: they could not be replaced.
    """

    used: int
    holders: tuple[Holder, ...] = ()
    busy: int | None = None
    uncorrected: int = 0
    pending: bool = False
    failed: bool = False


HARDWARE: Final[Mapping[int, str]] = MappingProxyType(
    {
        48: "an error of its memory that could not be corrected",
        62: "its internal controller has halted",
        64: "defective memory could not be replaced",
        74: "an error of NVLink",
        79: "it has fallen off the bus",
        92: "many single-bit errors of its memory",
        94: "an error of its memory that was contained to one program",
        95: "an error of its memory that was not contained",
        110: "a security fault",
        119: "its system processor does not answer",
        120: "an error of its system processor",
        140: "an error of its memory that could not be recovered from",
        143: "it could not be initialised",
    }
)
"""XIDs after which a GPU is given to no run before somebody has looked at it, most of which NVIDIA answers with a reset
or with a test of the hardware (https://docs.nvidia.com/deploy/xid-errors, "Analyzing Xid Errors with the Xid Catalog").
94 ends the program it hit and spares others, but leaves cells to be replaced, which takes a reset.

All others drain nothing: what programs bring about themselves (13 an exception in a kernel, 31 a page fault, 43 and 45
its clean-up, 68 a video decoder's), and what only informs (63: cells were marked for replacement). After any of them
the counters of the memory are read (:func:`broken`), which say whether the GPU waits for a reset."""


def broken(sight: Sight) -> str | None:
    """Why a GPU is not to be trusted by its own counters, in words that follow its name; None: nothing speaks against
    it."""
    if sight.failed:
        return "could not replace defective cells of its memory"
    if sight.uncorrected:
        return f"had {sight.uncorrected} errors of its memory that could not be corrected since its last reset"
    if sight.pending:
        return "waits for a reset to replace defective cells of its memory"
    return None


def reported(xid: int) -> str:
    """What a GPU has done that reported a hardware XID, in words that follow its name."""
    meaning = HARDWARE.get(xid)
    return f"reported XID {xid} ({meaning})" if meaning else f"reported XID {xid}"


@dataclass(frozen=True, slots=True)
class Foreign:
    """Memory that processes hold which are no runs of ours: bytes, and those of them that are known."""

    size: int
    holders: tuple[Holder, ...]


def foreign(sight: Sight, slack: int, *, in_use: bool) -> Foreign | None:
    """What strangers hold of a GPU, None where that is at most ``slack`` bytes. ``in_use``: a run of ours is on it.

    Where none is, all that is taken is theirs, whatever the driver knows of processes. Beside a run of ours only
    processes count that are known, are not ours, and of which the driver tells what they hold: more cannot be told
    from what the run itself has taken.
    """
    strangers = tuple(each for each in sight.holders if each.seen and not each.ours)
    size = sum(each.size or 0 for each in strangers) if in_use else sight.used
    if size <= slack:
        return None
    return Foreign(size, tuple(sorted(strangers, key=lambda each: -(each.size or 0))))


def held_sentence(gpu: str, found: Foreign) -> str:
    """Why a GPU (its name, such as ``GPU 0 of yard``) is not given to a run now."""
    named = [f"pid {each.pid}, {each.name}" if each.name else f"pid {each.pid}" for each in found.holders[:MOST_NAMED]]
    if len(found.holders) > MOST_NAMED:
        named.append(f"and {len(found.holders) - MOST_NAMED} more")
    who = "processes that are not Runyard's" if len(found.holders) > 1 else "a process that is not Runyard's"
    words = f" ({'; '.join(named)})" if named else ""
    return f"{gpu}: {found.size / GIB:.1f} GiB are held by {who}{words}; it is given to no run until they are free."


def drained_sentence(gpu: str, node: str, why: str) -> str:
    """Why a GPU is given to no run any more."""
    return f"{gpu} {why}: it is given to no run. Reset it or restart the machine, then `runyard nodes resume {node}`."
