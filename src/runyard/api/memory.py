"""Giving memory back to the machine: what one large request took should not stay with an idle server."""

from __future__ import annotations

import asyncio
import gc
from typing import Final

from runyard.shim.heaps import EVERY_S, Tide, trim

LARGE: Final = 10_000
"""From so many items on, a request is large."""


def settled() -> None:
    """What is there now stays: the collector need not look at it again (and spoil pages by doing so)."""
    gc.collect()
    gc.freeze()
    trim()


def give_back(items: int) -> None:
    """After a request of so many items: return what was freed, where they were many."""
    if items >= LARGE:
        trim()


async def keep_low() -> None:
    """Give back what requests have left, now and then; never ends."""
    tide = Tide()
    while True:
        await asyncio.sleep(EVERY_S)
        tide.look()
