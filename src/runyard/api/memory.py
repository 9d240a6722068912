"""Giving memory back to the machine: what one large request took should not stay with an idle server.

glibc keeps what threads free, in as many heaps as eight a core; see mallopt(3) and malloc_trim(3). Elsewhere nothing
is done.
"""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from typing import Final

LARGE: Final = 10_000
"""From so many items on, a request is large."""
_ARENA_MAX: Final = -8  # M_ARENA_MAX of malloc.h
_ARENAS: Final = 2
_libc: Final = ctypes.CDLL(None)


def few_heaps() -> None:
    """Have all threads share two heaps. To be called before there are threads."""
    with suppress(AttributeError):
        _libc.mallopt(_ARENA_MAX, _ARENAS)


def settled() -> None:
    """What is there now stays: the collector need not look at it again (and spoil pages by doing so)."""
    gc.collect()
    gc.freeze()


def give_back(items: int) -> None:
    """After a request of so many items: return what was freed, where they were many."""
    if items >= LARGE:
        with suppress(AttributeError):
            _libc.malloc_trim(0)
