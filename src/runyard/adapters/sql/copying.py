"""What SQLite keeps in its log is copied into the database beside the work, not within somebody's commit.

By itself SQLite copies in the commit that made the log longer than a thousand pages, and that commit waits for the
disk (sqlite.org/wal.html, "Checkpointing"). Here a thread does it once the writers are quiet. Where they never are, it
copies beside them, and the little that was written meanwhile in a turn of its own: only a log that is copied whole
begins again at its start.
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
"""Pages in the log (32 MB) at which no quiet moment is waited for any longer."""
MOST: Final = 32_000
"""Pages at which SQLite itself copies, within a commit: only where the thread does not get to it."""
QUIET_S: Final = 0.05
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
        quiet_s: float = QUIET_S,
    ) -> None:
        self._connect = connect
        self._turn = turn
        self._some = some
        self._many = many
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
            _checkpoint(driver)
            with self._turn:
                if self._pages != before:
                    _checkpoint(driver)
                self._pages = 0


def _checkpoint(driver: sqlite3.Connection) -> None:
    # Waits for nobody: what a reader still needs stays in the log (sqlite.org/pragma.html#pragma_wal_checkpoint).
    driver.execute("PRAGMA wal_checkpoint(PASSIVE)").close()
