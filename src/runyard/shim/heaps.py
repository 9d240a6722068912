"""Few heaps, and room given back to the machine: what processes of many threads ask of glibc's malloc.

glibc keeps what threads free, in as many heaps as eight a core; see mallopt(3) and malloc_trim(3). Elsewhere nothing
is done.
"""

from __future__ import annotations

import resource
from contextlib import suppress

from runyard.shim.lean import libc

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of malloc.h
_ARENAS = 2
_LARGE = 2 << 20
"""What is not of a heap but mapped, and unmapped when it is free. glibc raises its own bound to the largest that was
ever freed, so that after one request of many megabytes all others lie in heaps. A lower bound costs more than it
spares: what is mapped anew for each piece of a log is cleared by the kernel, page for page."""
_ROOM = 4 << 20
"""What may lie free at the end of a heap: less is given back and asked for again with each request."""
_MUCH = 256
"""Pages: a megabyte."""
EVERY_S = 30.0
"""How often a process may look."""


def few_heaps() -> None:
    """Have all threads of this process, and of its forks, share two heaps, in which nothing large is. To be called
    before there are threads."""
    for parameter, value in ((_ARENA_MAX, _ARENAS), (_MMAP_THRESHOLD, _LARGE), (_TRIM_THRESHOLD, _ROOM)):
        with suppress(OSError):
            libc("mallopt", parameter, value)


def trim() -> None:
    """Return what was freed."""
    with suppress(OSError):
        libc("malloc_trim", 0)


class Tide:
    """Returns what was freed where this process has taken much since it last did: what many threads take and free for
    a moment would else stay, in ever more places."""

    def __init__(self) -> None:
        self._faults = _faults()

    def look(self) -> bool:
        """To be called now and then; whether there was something to do. It takes a millisecond."""
        if _faults() - self._faults < _MUCH:
            return False
        trim()
        self._faults = _faults()
        return True


def _faults() -> int:
    """How many pages this process has been given so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
