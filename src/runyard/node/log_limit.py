"""The limit of a log. What a program says beyond it is neither shipped nor kept, but for the last of it.

The log is a plain file that the program appends to, and nothing here disturbs that. While the program runs, what lies
beyond the cut loses its blocks on the disk (fallocate(2), FALLOC_FL_PUNCH_HOLE); the server is sent the file up to the
cut and a notice. When all of the program is gone, the file is written anew from the cut on: the notice, how much is
left out, the last of what was said. All of this follows from the file and the limit alone, so what was shipped at any
time is the beginning of what the file is at last.
"""

from __future__ import annotations

import ctypes
import os

import msgspec

from runyard.node.home import AttemptFolder, write_whole

TAIL = 64 << 10
"""The last bytes of a log are kept, whatever its limit."""
LONGEST_LINE = 64 << 10
"""How far beyond the limit the end of a line is looked for, where the log can be cut."""
BLOCK = 4096
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 0x01, 0x02
MARK = "[runyard]"

_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)


def free_blocks(descriptor: int, begin: int, end: int) -> None:
    """Give the blocks of a range of a file back; its size stays. Raises ``OSError`` (``EOPNOTSUPP``: not on this file
    system)."""
    mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    if _fallocate(descriptor, mode, begin, end - begin) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def whole_characters(text: bytes) -> int:
    """How many bytes of ``text`` are whole UTF-8 characters: one that is cut at the end does not count."""
    for back in range(1, min(4, len(text)) + 1):
        byte = text[-back]
        if byte < 0x80:
            break
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(text) - back if back < needed else len(text)
    return len(text)


def find_cut(descriptor: int, limit: int) -> int | None:
    """Where a log is cut: behind the line in which it reaches its limit (at least one byte), or 64 KiB further where
    that line does not end. None: it has not come so far."""
    text = os.pread(descriptor, LONGEST_LINE, limit - 1)
    end = text.find(b"\n")
    if end >= 0:
        at = limit + end
    elif len(text) == LONGEST_LINE:
        at = limit - 1 + whole_characters(text)
    else:
        return None
    return at if os.fstat(descriptor).st_size > at else None


def notice(descriptor: int, cut: int, limit: int) -> bytes:
    """What is said at the cut."""
    broken = "" if os.pread(descriptor, 1, cut - 1) == b"\n" else "\n"
    words = f"{broken}{MARK} The log has reached its limit of {mebibytes(limit)}: what follows is left out here, "
    return f"{words}but for the last {TAIL >> 10} KiB, which come when the program has ended.\n".encode()


def mebibytes(size: int) -> str:
    """A limit for people: whole MiB where it is that, else bytes."""
    return f"{size >> 20} MiB" if size % (1 << 20) == 0 else f"{size} bytes"


# ----------------------------------------------------------------------------------------- while the program runs


def shippable(path: str, limit: int) -> int:
    """How many bytes of a log there are to be shipped, the notice included. ``limit`` 0: no limit.

    Raises ``FileNotFoundError``.
    """
    size = os.stat(path).st_size
    if limit == 0 or size <= limit:
        return size
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        cut = find_cut(descriptor, limit)
        if cut is None:
            return min(size, limit - 1 + LONGEST_LINE - 3)  # a character of four bytes may be cut in two there
        return cut + len(notice(descriptor, cut, limit))
    finally:
        os.close(descriptor)


def read_shippable(path: str, limit: int, offset: int, most: int) -> bytes:
    """Up to ``most`` bytes of what is to be shipped, from an offset. Raises ``FileNotFoundError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        cut = find_cut(descriptor, limit) if limit else None
        if cut is None:
            end = limit - 1 + LONGEST_LINE - 3 if limit else offset + most
            return os.pread(descriptor, max(0, min(most, end - offset)), offset)
        if offset < cut:
            return os.pread(descriptor, min(most, cut - offset), offset)
        return notice(descriptor, cut, limit)[offset - cut :][:most]
    finally:
        os.close(descriptor)


class Freeing:
    """The blocks of one log that are given back while it grows."""

    def __init__(self, path: str, limit: int) -> None:
        self._path = path
        self.limit = limit
        self._begin: int | None = None
        self.size = 0
        """As it was at the last look."""
        self.works = True
        """Whether the file system gives blocks back."""

    def look(self) -> None:
        """Free what can be freed now. Raises ``FileNotFoundError``."""
        self.size = os.stat(self._path).st_size
        if self.size <= self.limit + TAIL:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if self._begin is None:
                self._begin = find_cut(descriptor, self.limit)
            end = (self.size - TAIL) // BLOCK * BLOCK
            if self._begin is not None and end > self._begin:
                free_blocks(descriptor, self._begin, end)
                self._begin, self.works = end, True
        except OSError:
            self.works = False
        finally:
            os.close(descriptor)


# ------------------------------------------------------------------------------------- when the program is gone


class _Rest(msgspec.Struct, frozen=True):
    """What a log is from its cut on, the node's closing lines apart."""

    cut: int
    text: bytes


def trim(folder: AttemptFolder, limit: int) -> int | None:
    """Decide, once, what a log over its limit is to be, and return the size that it is to have; None: it is within it.

    Nobody appends to it any more. What is decided is on the disk when this returns; :func:`rewrite` does it.
    """
    rest = _read_rest(folder)
    if rest is None:
        rest = _make_rest(folder, limit) if limit else None
        if rest is None:
            return None
        write_whole(folder.log_rest, msgspec.json.encode(rest), lasting=True)
    return rest.cut + len(rest.text)


def rewrite(folder: AttemptFolder, closing: bytes) -> None:
    """Write a trimmed log anew from its cut on, ``closing`` at its end; as often as it is asked for."""
    rest = _read_rest(folder)
    if rest is None:
        return
    text = rest.text + closing
    descriptor = os.open(folder.log("training-log"), os.O_RDWR | os.O_CLOEXEC)
    try:
        there = os.pread(descriptor, len(text) + 1, rest.cut)
        if there == text:
            return  # it was done before
        os.ftruncate(descriptor, rest.cut)
        os.pwrite(descriptor, text, rest.cut)
    finally:
        os.close(descriptor)


def settle(folder: AttemptFolder, limit: int) -> None:
    """Trim the log of a program that is gone, where that has not been done. Raises ``OSError``."""
    if not os.path.exists(folder.log_rest) and trim(folder, limit) is not None:
        rewrite(folder, b"")


def is_settled(folder: AttemptFolder, limit: int) -> bool:
    """Whether the file of an ended program is what the log is to be: within its limit, or trimmed."""
    try:
        if limit == 0 or os.stat(folder.log("training-log")).st_size <= limit:
            return True
        descriptor = os.open(folder.log("training-log"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        return os.path.exists(folder.log_rest) or find_cut(descriptor, limit) is None
    finally:
        os.close(descriptor)


def _read_rest(folder: AttemptFolder) -> _Rest | None:
    try:
        with open(folder.log_rest, "rb") as file:
            return msgspec.json.decode(file.read(), type=_Rest)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _make_rest(folder: AttemptFolder, limit: int) -> _Rest | None:
    try:
        if os.stat(folder.log("training-log")).st_size <= limit:
            return None
        descriptor = os.open(folder.log("training-log"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        cut = find_cut(descriptor, limit)
        if cut is None:
            return None
        size = os.fstat(descriptor).st_size
        begin = max(cut, size - TAIL)
        last = os.pread(descriptor, size - begin, begin)
        if begin > cut:
            last = last[last.find(b"\n") + 1 :]  # from the start of a line, if there is one
        left_out = size - cut - len(last)
        told = f"{MARK} {left_out} bytes are left out here.\n".encode() if left_out else b""
        return _Rest(cut, notice(descriptor, cut, limit) + told + last)
    finally:
        os.close(descriptor)
