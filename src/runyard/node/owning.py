"""Which installation has a GPU: one lock a GPU and machine, held by the node and by the shims of programs on that GPU.

A lock is flock(2) on a file in a folder that all users of the machine share. Shims inherit its descriptor, so that a
GPU stays its installation's while a program of it runs, the node being dead or started again. A node that finds a lock
held reads in the file whose it is: its own home's, then its programs hold it, and it is the owner as before.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from runyard.node.inventory import Device

FOLDERS = ("/run/lock/runyard", "/dev/shm/runyard-locks")
"""Where the locks are: the first that this user can have. Neither outlives a restart of the machine."""
LONGEST = 4096


@dataclass(slots=True)
class Owned:
    """The GPUs that are this installation's. ``folder``: None where no folder could be had, then nothing is locked."""

    home: str
    folder: str | None
    notes: list[str] = field(default_factory=list[str])
    held: dict[int, int] = field(default_factory=dict[int, int])
    """Descriptors, by the number of the device."""
    lent: dict[int, int] = field(default_factory=dict[int, int])
    """The same of those that programs hold which an earlier node of this home has left."""

    @property
    def hidden(self) -> tuple[str, ...]:
        """What programs are not to see: who can open a lock can also take it."""
        return () if self.folder is None or not (self.held or self.lent) else (self.folder,)

    def take(self, device: Device) -> bool:
        """Make a GPU this installation's; False, with a sentence in ``notes``, when it is another's."""
        if self.folder is None:
            return True
        path = f"{self.folder}/gpu-{re.sub('[^A-Za-z0-9-]', '_', device.uuid) or device.index}"
        try:
            descriptor = _open(path)
        except OSError as error:
            self.notes.append(f"GPU {device.index} is not locked ({path}: {error.strerror}): {UNLOCKED}")
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return self._is_ours(device, descriptor)
        self._keep(device.index, descriptor)
        return True

    def _keep(self, index: int, descriptor: int) -> None:
        os.pwrite(descriptor, self.home.encode(), 0)
        os.ftruncate(descriptor, len(self.home.encode()))
        self.held[index] = descriptor
        self.lent.pop(index, None)

    def _wait(self, index: int, descriptor: int) -> None:
        """Until the last program ends that an earlier node of this home has left."""
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._keep(index, descriptor)

    def _is_ours(self, device: Device, descriptor: int) -> bool:
        owner = _owner(descriptor)
        if owner == self.home:
            self.lent[device.index] = descriptor
            threading.Thread(target=self._wait, args=(device.index, descriptor), name="gpu-lock", daemon=True).start()
            return True
        os.close(descriptor)
        self.notes.append(
            f"GPU {device.index} ({device.name}) belongs to the installation in {owner or 'another folder'}, or to a "
            "program that it has left running: end that one (`runyard down`), then start this one again."
        )
        return False

    def descriptors(self, devices: Sequence[Device]) -> tuple[int, ...]:
        """What a program on some GPUs has to hold. Raises ``OSError`` for a GPU that another installation has taken
        since a program ended that an earlier node had left on it."""
        for device in devices:
            descriptor = self.lent.get(device.index)
            if descriptor is not None and (owner := _owner(descriptor)) != self.home:
                raise OSError(errno.EBUSY, f"GPU {device.index} belongs to the installation in {owner} by now")
        return tuple(self.held[device.index] for device in devices if device.index in self.held)


def _owner(descriptor: int) -> str:
    return os.pread(descriptor, LONGEST, 0).decode("utf-8", "replace")


UNLOCKED = "another installation could use it at the same time."
NO_FOLDER = f"GPUs are not locked, since {' and '.join(FOLDERS)} cannot be used: {UNLOCKED}"


def owned_by(home: str, folder: str | None = None) -> Owned:
    """The GPUs of the installation whose node has ``home``, none yet. ``folder``: where the locks are to be."""
    found = next(filter(_usable, FOLDERS if folder is None else (folder,)), None)
    return Owned(os.path.realpath(home), found, [] if found else [NO_FOLDER])


def _usable(folder: str) -> bool:
    """Whether a folder that all users share is there by now, and is none that somebody has put a link to."""
    try:
        os.mkdir(folder, 0o700)
        os.chmod(folder, 0o1777)
    except FileExistsError:
        pass
    except OSError:
        return False
    return os.path.isdir(folder) and not os.path.islink(folder) and os.access(folder, os.W_OK | os.X_OK)


def _open(path: str) -> int:
    """A file that every user may lock. A file of another user must not be opened with O_CREAT in such a folder
    (fs.protected_regular, proc(5)). Raises ``OSError``."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    for _ in range(3):
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            pass
        try:
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        os.fchmod(descriptor, 0o666)
        return descriptor
    raise OSError(errno.EBUSY, "it comes and goes")
