"""Pieces of UTF-8 text that end between two characters."""

from __future__ import annotations


def whole_characters(chunk: bytes | memoryview) -> int:
    """How many bytes of ``chunk`` are complete UTF-8 characters: one that is cut at its end does not count (RFC 3629,
    section 3). Bytes that are no UTF-8 count as complete."""
    for back in range(1, min(4, len(chunk)) + 1):
        byte = chunk[-back]
        if byte < 0x80:
            break
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(chunk) - back if back < needed else len(chunk)
    return len(chunk)
