"""How many entries a zip has, counted before any of them is held in memory.

Formats: APPNOTE.TXT 6.3.10, sections 4.3.12 (central directory), 4.3.14 to 4.3.16 (its end, and that of zip64). What is
counted is what :mod:`zipfile` will read: headers one behind the other in the bytes of the directory, whatever number of
them the zip claims.
"""

from __future__ import annotations

import os
import struct
from typing import IO, Final

_END: Final = struct.Struct("<4s4H2LH")
_LOCATOR: Final = struct.Struct("<4sLQL")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_HEADER: Final = 46
_COMMENT: Final = 0xFFFF
_PIECE: Final = 1 << 20
_MOST_A_HEADER: Final = _HEADER + 2048
"""Bytes that an entry of the directory may have on average: names and fields are far shorter."""


class ZipRefused(Exception):
    """No zip, or one whose directory is too large; the sentence says which."""


def count_entries(archive: IO[bytes], limit: int) -> int:
    """The number of entries, or ``limit`` + 1 for more than that. Raises :class:`ZipRefused` for what is no zip."""
    begin, size = _directory(archive)
    if size > limit * _MOST_A_HEADER:
        return limit + 1
    archive.seek(begin)
    found, buffer, read = 0, b"", 0
    at = 0
    while found <= limit and read - len(buffer) + at + _HEADER <= size:
        if len(buffer) - at < _HEADER + 3 * 0xFFFF and read < size:
            piece = archive.read(min(_PIECE, size - read))
            if not piece:
                break
            buffer, at, read = buffer[at:] + piece, 0, read + len(piece)
        if len(buffer) - at < _HEADER:
            break
        name, extra, comment = struct.unpack_from("<3H", buffer, at + 28)
        at += _HEADER + name + extra + comment
        found += 1
    return found


def _directory(archive: IO[bytes]) -> tuple[int, int]:
    """Where the central directory begins, and its bytes."""
    length = archive.seek(0, os.SEEK_END)
    tail = max(0, length - _END.size - _COMMENT)
    archive.seek(tail)
    last = archive.read()
    place = last.rfind(b"PK\5\6")
    if place < 0 or len(last) - place < _END.size:
        raise ZipRefused("It is no zip: zip the folder again, or give the folder itself.")
    size = int(_END.unpack_from(last, place)[5])
    end = tail + place
    if end >= _LOCATOR.size + _END64.size:
        archive.seek(end - _LOCATOR.size - _END64.size)
        both = archive.read(_LOCATOR.size + _END64.size)
        if both.startswith(b"PK\6\6") and both.startswith(b"PK\6\7", _END64.size):
            size = int(_END64.unpack_from(both)[8])
            end -= _LOCATOR.size + _END64.size
    if size > end:
        raise ZipRefused("It is damaged: its directory is larger than the zip. Zip the folder again.")
    return end - size, size
