"""Small objects of one content that come a moment apart are one file by several names.

The runs of a sweep have the same words on their code and data, each in its own results. A name costs a file system a
tenth of a file. Nothing is ever written into a file of the store, so names of one file are as good as files.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from runyard.ports.embedded import SmallObject

LARGEST: Final = 64 << 10
"""Bytes of the largest object of which that is looked at."""
MOMENT_S: Final = 5.0
"""A name is made of a file that is no older than this: the time of an object's last change is the file's."""
MOST, MOST_OPEN = 256, 16
"""Contents that are remembered, and those of them whose file is held open."""

Content = tuple[str, bytes]
"""An account, and the digest of a content."""


def content_of(small: SmallObject) -> Content | None:
    """By what objects of one content are known; None for one that is large."""
    if len(small.content) > LARGEST:
        return None
    return small.account, blake2b(small.content, digest_size=32).digest()


@dataclass(slots=True)
class _Kept:
    """``descriptor``: of the file, once the content has come twice; ``facts``: its size and time of change then."""

    until: float
    descriptor: int | None = None
    facts: tuple[int, int] = (0, 0)


class Alike:
    """What was stored a moment ago, by its content."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._kept: OrderedDict[Content, _Kept] = OrderedDict()
        self.works = True
        """Whether files can have several names here, as far as is known."""

    def find(self, content: Content) -> int | None:
        """A descriptor, the caller's own, of a file that was stored with this content a moment ago and has it still."""
        with self._lock:
            kept = self._kept.get(content)
            if kept is None or kept.descriptor is None:
                return None
            if self._monotonic() >= kept.until or _facts(kept.descriptor) != kept.facts:
                self._drop(content)
                return None
            return os.dup(kept.descriptor)

    def stored(self, content: Content, descriptor: int) -> None:
        """A file with this content has just been made durable, and has its name."""
        now = self._monotonic()
        with self._lock:
            kept = self._kept.get(content)
            if kept is None or now >= kept.until:
                self._drop(content)
                self._kept[content] = _Kept(now + MOMENT_S)
                while len(self._kept) > MOST:
                    self._drop(next(iter(self._kept)))
            elif kept.descriptor is None:
                kept.descriptor, kept.facts = os.dup(descriptor), _facts(descriptor)
                kept.until = now + MOMENT_S
                self._kept.move_to_end(content)
                held = [each for each, other in self._kept.items() if other.descriptor is not None]
                for each in held[:-MOST_OPEN]:
                    self._drop(each)

    def _drop(self, content: Content) -> None:
        kept = self._kept.pop(content, None)
        if kept is not None and kept.descriptor is not None:
            os.close(kept.descriptor)

    def close(self) -> None:
        """Forget all."""
        with self._lock:
            for content in list(self._kept):
                self._drop(content)


def add_name(descriptor: int, folder: int, name: str) -> bool:
    """Give a file one more name, durable when its folder is; False where something else has it. Raises ``OSError``
    where that cannot be done at all."""
    try:
        os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=folder, follow_symlinks=True)
    except FileExistsError:
        return os.path.samestat(os.stat(name, dir_fd=folder, follow_symlinks=False), os.fstat(descriptor))
    return True


def _facts(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return (found.st_size, found.st_mtime_ns) if found.st_nlink else (-1, -1)
