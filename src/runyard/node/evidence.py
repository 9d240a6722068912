"""The text of load-data.log and load-model.log: what was fetched from where, with times, and what went wrong."""

from __future__ import annotations

import threading
import time

LIMIT = 64 * 1024
"""Bytes of a log that travel in a fact."""
MOST_LINES = 2000


class Evidence:
    """Lines with times, from any thread. Above ``MOST_LINES`` the middle is left out, and says so."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._left_out = 0
        self._lock = threading.Lock()

    def note(self, *sentences: str) -> None:
        """Add a line for each sentence, all with the same time."""
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        lines = [f"{stamp} {' '.join(sentence.split())}\n" for sentence in sentences]
        with self._lock:
            self._lines += lines
            excess = len(self._lines) - MOST_LINES
            if excess > 0:
                del self._lines[MOST_LINES // 2 : MOST_LINES // 2 + excess]
                self._left_out += excess

    def text(self) -> str:
        """All of it."""
        with self._lock:
            lines = list(self._lines)
            if self._left_out:
                lines.insert(MOST_LINES // 2, f"... {self._left_out} lines left out ...\n")
        return "".join(lines)


def clip(text: str, limit: int = LIMIT) -> str:
    """The end of a text, at most so many bytes, from the start of a line."""
    raw = text.encode()
    if len(raw) <= limit:
        return text
    return raw[-limit:].split(b"\n", 1)[-1].decode("utf-8", "replace")


def human(size: int) -> str:
    """Bytes for people: ``512 B``, ``3.2 MB``."""
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.95 or unit == "TB":
            return f"{value:.1f} {unit}"
    raise AssertionError("unreachable")
