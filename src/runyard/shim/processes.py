"""Processes by what the kernel says of them: who descends from whom, when one started; signals that hit no other."""

import os

from runyard.shim.lean import signals


def read(path: str) -> bytes:
    """A file of the kernel's, whole, without what ``open`` sets up and imports for it. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = b""
        while chunk := os.read(descriptor, 1 << 16):
            text += chunk
        return text
    finally:
        os.close(descriptor)


_boot_id: list[str] = []


def boot_id() -> str:
    """The id of this start of the machine, which is read once."""
    if not _boot_id:
        _boot_id.append(read("/proc/sys/kernel/random/boot_id").decode().strip())
    return _boot_id[0]


_own_start: dict[int, int | None] = {}


def own_start_ticks() -> int | None:
    """When the calling process started, as :func:`start_ticks`, which is read once."""
    own = os.getpid()
    if own not in _own_start:
        _own_start.clear()  # a fork has that of the process it came from
        _own_start[own] = start_ticks(own)
    return _own_start[own]


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat from the third on (proc(5)); the second, the name, may hold anything."""
    return read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def start_ticks(pid: int, living: bool = False) -> int | None:
    """When a process started, in clock ticks since boot: with pid and boot id its identity. None: no such process, or
    (``living``) one that has ended and is not collected yet."""
    try:
        fields = _stat(pid)
    except OSError:
        return None
    return None if living and fields[0] in b"ZX" else int(fields[19])


def peak_kib(pid: int) -> int:
    """The most memory that a process has held at once (proc(5), VmHWM); 0: it is gone."""
    try:
        text = read(f"/proc/{pid}/status")
    except OSError:
        return 0
    words = text.partition(b"VmHWM:")[2].split(None, 1)
    return int(words[0]) if words else 0


def is_child(pid: int) -> bool:
    """Whether a process, which may have ended, is a child of the calling one that has not been collected."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError:
        return False
    return True


def descendants(ancestor: int) -> list[int]:
    """Every living process below one, parents before children, found by reading all of /proc once."""
    children: dict[int, list[int]] = {}
    dead: set[int] = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            fields = _stat(int(name))
        except OSError:
            continue  # it ended since the listing
        children.setdefault(int(fields[1]), []).append(int(name))
        if fields[0] in b"ZX":
            dead.add(int(name))
    found: list[int] = []
    level = [ancestor]
    while level:
        level = [child for parent in level for child in children.get(parent, ())]
        found += level
    return [pid for pid in found if pid not in dead]


def signal_all(members: "Members", numbers: tuple[int, ...]) -> set[int]:
    """Send signals to every process that ``members()`` names, in that order, and say which they were.

    Each is opened first and looked for a second time, so that a number that changed hands is never signalled.
    """
    opened: dict[int, int | None] = {}
    try:
        for pid in members():
            try:
                opened[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                continue  # it ended since
            except OSError:
                opened[pid] = None  # a kernel before 5.3, or one that does not let us
        return {pid for pid in members() if pid in opened and _signal(pid, opened[pid], numbers)}
    finally:
        for descriptor in opened.values():
            if descriptor is not None:
                os.close(descriptor)


def _signal(pid: int, descriptor: int | None, numbers: tuple[int, ...]) -> bool:
    """Whether a process got a signal, by its descriptor where there is one; the first may have been its end."""
    sent = False
    try:
        for number in numbers:
            if descriptor is None:
                os.kill(pid, number)
            else:
                signals.pidfd_send_signal(descriptor, number)
            sent = True
    except OSError:
        pass  # it is gone, or not ours
    return sent


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Members = Callable[[], list[int]]
