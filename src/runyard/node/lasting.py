"""Views that are not on the disk yet when the machine goes down are not believed afterwards.

Nothing is flushed while somebody waits for it. A mark beside a view (``KEY.new``, with the boot that it was made in)
goes away once the file system has been flushed, a little later; a mark of an earlier boot condemns its view.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable

from runyard.node.became import boot_id

DELAY_S = 5.0
MARK = ".new"
"""Ending of a mark's name."""
_libc = ctypes.CDLL(None, use_errno=True)


class Lasting:
    """The marks in a folder. ``condemn`` is given the path of what may not be whole, to remove it with all that lies
    beside it, the mark too."""

    def __init__(self, folder: str, condemn: Callable[[str], None], delay_s: float = DELAY_S) -> None:
        self._folder = folder
        self._delay_s = delay_s
        self._lock = threading.Lock()
        self._whole: list[str] = []
        self._boot = boot_id()
        for name in os.listdir(folder):
            if name.endswith(MARK):
                self._judge(name.removesuffix(MARK), condemn)

    def _judge(self, key: str, condemn: Callable[[str], None]) -> None:
        with open(f"{self._folder}/{key}{MARK}", encoding="ascii") as file:
            same = file.read() == self._boot
        if same and os.path.isdir(f"{self._folder}/{key}"):
            self.whole(key)
            return
        condemn(f"{self._folder}/{key}")

    def begin(self, key: str) -> None:
        """A view is about to get its name."""
        with open(f"{self._folder}/{key}{MARK}", "w", encoding="ascii") as file:
            file.write(self._boot)

    def whole(self, key: str) -> None:
        """It has it, with all that is in it: once that is on the disk the mark may go."""
        with self._lock:
            self._whole.append(key)
            if len(self._whole) > 1:
                return
        threading.Thread(target=self._flush, name="lasting", daemon=True).start()

    def _flush(self) -> None:
        time.sleep(self._delay_s)
        with self._lock:
            keys, self._whole = self._whole, []
        try:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # the whole cache was removed meanwhile, marks and all
        try:
            if _libc.syncfs(folder) != 0:
                return  # the marks stay, and so does the doubt
        finally:
            os.close(folder)
        for key in keys:
            try:
                os.unlink(f"{self._folder}/{key}{MARK}")
            except FileNotFoundError:
                pass  # the view was removed meanwhile
