"""The node's own disk: before it is full, what is in the cache gives way, and then nothing new starts here."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Final

from runyard.core.retention import is_short
from runyard.node.disk import gibibytes
from runyard.node.home import say
from runyard.node.lanes import do_safely

LOOK_EVERY_S: Final = 10.0
"""Between two looks at the free bytes of the disk, one call of the system each."""
MARGIN: Final = 9 / 8
"""A disk that was short has room again only when so much more than the reserve is free: it would flap otherwise."""


class DiskRoom:
    """Looks at the disk of a folder and tells when it gets short of room, and when that is over.

    ``make_room`` is asked first for so many free bytes; ``tell`` gets the sentence, empty when there is room;
    ``measure``: as :func:`space`, which is meant unless told.
    """

    def __init__(
        self,
        folder: str,
        reserve: int,
        make_room: Callable[[int], None],
        tell: Callable[[str], None],
        every_s: float = LOOK_EVERY_S,
        measure: Callable[[str], tuple[int, int]] | None = None,
    ) -> None:
        self._folder = folder
        self._measure = measure or space
        self._reserve = reserve
        self._make_room = make_room
        self._tell = tell
        self._every_s = every_s
        self.closed = ""
        """Why nothing new may start here, empty where it may."""

    def start(self) -> None:
        """Look now, and then now and then."""
        do_safely(self.look)
        threading.Thread(target=self._look_for_ever, name="room", daemon=True).start()

    def _look_for_ever(self) -> None:
        while True:
            time.sleep(self._every_s)
            do_safely(self.look)

    def look(self) -> None:
        """Look once."""
        reserve = round(self._reserve * MARGIN) if self.closed else self._reserve
        free, total = self._measure(self._folder)
        if is_short(free, total, reserve):
            self._make_room(min(reserve, total // 20))
            free, total = self._measure(self._folder)
        if is_short(free, total, reserve):
            if not self.closed:
                self._change(
                    f"The machine's disk has only {gibibytes(free)} of {gibibytes(total)} left (`node_reserve_gib`): "
                    "nothing new starts there until there is room. `runyard usage --disk` shows what takes it."
                )
        elif self.closed:
            self._change("")

    def _change(self, closed: str) -> None:
        self.closed = closed
        say(closed or "The disk has room again: runs may start.")
        self._tell(closed)


def space(folder: str) -> tuple[int, int]:
    """Bytes that may still be written to a folder's disk, and all that it has."""
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize
