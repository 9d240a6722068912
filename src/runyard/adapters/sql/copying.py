"""What SQLite keeps in its log is copied into the database beside the work, not within somebody's commit.

By itself SQLite copies in the commit that made the log longer than a thousand pages, and that commit waits for the
disk (sqlite.org/wal.html, "Checkpointing"). Here a thread does it once the writers are quiet. Where they never are, it
copies beside them. Only a log that is copied whole begins again at its start: where something is always written
meanwhile it grows on, until it is long, and the little that is left then is copied in a turn of the thread's own.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from typing import Final

SOME: Final = 1000
"""Pages in the log from which on a quiet moment is used: as many as SQLite by itself would copy."""
MANY: Final = 8000
"""Pages that are not copied yet (32 MB) at which no quiet moment is waited for any longer."""
LONG: Final = 12_000
"""Pages in the log from which on writers are made to wait for the rest of them: looked at each 8,000, a log of small
transactions stays below 16,000, the size at which its file is kept."""
MOST: Final = 64_000
"""Pages at which SQLite itself copies, within a commit: only where the thread does not get to it. The largest
submission has 40,000."""
QUIET_S: Final = 0.25
"""A busy machine stops a process for 50 ms: those who write one after another are not quiet then."""
_PAGES: Final = 16
"""A small transaction changes about so many pages, a large one a page for every eight rows."""
_ROWS_A_PAGE: Final = 8
_log = logging.getLogger(__name__)


class Copier:
    """Copies one database's log. ``connect`` makes a connection, ``turn`` is the writers'. A thread is there only while
    there is something to copy."""

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        turn: AbstractContextManager[None],
        *,
        some: int = SOME,
        many: int = MANY,
        long: int = LONG,
        quiet_s: float = QUIET_S,
    ) -> None:
        self._connect = connect
        self._turn = turn
        self._some = some
        self._many = many
        self._long = long
        self._quiet_s = quiet_s
        self._pages = 0
        self._written = 0.0
        self._thread: threading.Thread | None = None
        self._hurry = threading.Event()
        self._closed = False

    def wrote(self, rows: int) -> None:
        """A transaction was committed that changed so many rows. In the turn of who wrote."""
        self._pages += _PAGES + rows // _ROWS_A_PAGE
        self._written = time.monotonic()
        if self._pages >= self._some and self._thread is None and not self._closed:
            self._begin()
        if self._pages >= self._many:
            self._hurry.set()

    def close(self) -> None:
        """Copy nothing more; what is in the log stays there, or is copied by who closes the database last."""
        with self._turn:
            self._closed = True
            thread = self._thread
        self._hurry.set()
        if thread is not None:
            thread.join()

    def _begin(self) -> None:
        self._hurry.clear()
        thread = threading.Thread(target=self._run, name="copy the log", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads here: a later commit tries again, or SQLite copies by itself
            return
        self._thread = thread

    def _run(self) -> None:
        try:
            while (left := self._written + self._quiet_s - time.monotonic()) > 0 and not self._hurry.wait(left):
                pass
            if not self._closed:
                self._copy()
        except sqlite3.Error:
            _log.exception("the log of the database could not be copied: it grows, and is copied later")
        finally:
            with self._turn:
                self._thread = None

    def _copy(self) -> None:
        with closing(self._connect()) as driver:
            before = self._pages
            is_long = _checkpoint(driver) >= self._long
            if is_long and self._pages != before:
                _checkpoint(driver)  # as long as they write beside it: what is left for the turn is little
            with self._turn:
                left = self._pages - before
                if left and is_long:
                    _checkpoint(driver)
                    left = 0
                self._pages = left


def _checkpoint(driver: sqlite3.Connection) -> int:
    """Copy what can be copied; returns how many pages the log has."""
    # Waits for nobody: what a reader still needs stays in the log (sqlite.org/pragma.html#pragma_wal_checkpoint).
    _busy, pages, _copied = driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return int(pages)
