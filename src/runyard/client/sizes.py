"""Numbers of things and bytes, for people."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """How many there are of something: ``1 file``, ``2 files``."""
    return f"{count} {noun}{'s' * (count != 1)}"


def human_size(size: float) -> str:
    """Bytes for people, e.g. ``34.1 KB`` (1 KB = 1024 bytes)."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1024 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable: GB returns")
