"""The memory that forks share: joined to large pages, so that a fork has less to copy; without holes among its
objects, so that a program's own lie together and not on hundreds of pages of its parent; libraries' code mapped."""

from __future__ import annotations

import _ctypes
import os
import sys

from runyard.shim.lean import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MADV_POPULATE_READ = 22  # Linux 5.14, asm-generic/mman-common.h
MADV_COLLAPSE = 25  # Linux 6.1
PAGE = os.sysconf("SC_PAGE_SIZE")
HUGE = 2 << 20
OBJECT, FLOAT, BYTES = (kind().__sizeof__() for kind in (object, float, bytes))
"""Bytes of the smallest objects of three kinds."""
PRESENT = bytes(128) + b"\1" * 128
"""Of the high byte of a word of /proc/pid/pagemap (Documentation/admin-guide/mm/pagemap.rst): whether the page is in
this process's tables."""


def join_pages() -> int:
    """Join what can be joined of this process's own memory; returns how many pages of 2 MiB came of it. Nothing is
    lost where the kernel does not know how."""
    joined = 0
    for start, end in _ranges(_is_own):
        for address in range(-(-start // HUGE) * HUGE, end - HUGE + 1, HUGE):
            joined += _joined(address)
    return joined


def fill_holes() -> list[object]:
    """Objects for all the room that was left free among the interpreter's small objects, which are to be kept. What a
    fork makes then lies on pages of its own, side by side; in the holes each would have cost a copy of a page, with a
    fault. Nothing is made where the interpreter does not tell of its pools (Objects/obmalloc.c)."""
    kept: list[object] = []
    for size, free in _holes():
        if size > BYTES + 1:  # of one character there is each but once
            kept += [bytes(size - BYTES) for _ in range(free)]
        elif size >= FLOAT:
            kept += [float(number) for number in range(free)]
        elif size >= OBJECT:
            kept += [object() for _ in range(free)]
    return kept


def _holes() -> list[tuple[int, int]]:
    """The free blocks of the interpreter's pools: size, and how many."""
    tell = getattr(sys, "_debugmallocstats", None)
    if tell is None:
        return []
    heard, told = os.pipe()
    os.set_blocking(told, False)
    errors = os.dup(2)
    os.dup2(told, 2)
    try:
        tell()
    finally:
        os.dup2(errors, 2)
        os.close(errors)
        os.close(told)
    with open(heard, "rb") as file:
        rows = [line.split() for line in file.read().splitlines()]
    # class, size, pools, blocks in use, blocks free
    numbers = [[int(word) for word in row] for row in rows if len(row) == 5 and all(word.isdigit() for word in row)]
    return [(row[1], row[4]) for row in numbers]


def mapped_files() -> list[tuple[int, int]]:
    """Where this process has pages of files' code and constants in its tables: addresses (from, to)."""
    found: list[tuple[int, int]] = []
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            for start, end in _ranges(_is_of_file):
                words = os.pread(pagemap.fileno(), (end - start) // PAGE * 8, start // PAGE * 8)
                present = words[7 if sys.byteorder == "little" else 0 :: 8].translate(PRESENT)
                found += [(start + a * PAGE, start + b * PAGE) for a, b in _runs(present)]
    except OSError:
        pass  # a kernel without it
    return found


def map_files(ranges: list[tuple[int, int]]) -> None:
    """Take pages of files into this process's tables, without a fault for each. It is nothing but that: they are the
    kernel's, who has them once, and goes on without where it does not know how."""
    for start, end in ranges:
        try:
            libc("madvise", _word(start), _word(end - start), MADV_POPULATE_READ)
        except OSError:
            return


def _runs(marks: bytes) -> list[tuple[int, int]]:
    """Where ones stand: places (from, to)."""
    found: list[tuple[int, int]] = []
    end = 0
    while (start := marks.find(1, end)) >= 0:
        end = marks.find(0, start)
        end = len(marks) if end < 0 else end
        found.append((start, end))
    return found


class _Word(_ctypes._SimpleCData):  # pyright: ignore - the stub asks for a type, C for this name
    """An argument as wide as a pointer."""

    _type_ = "L"


def _word(value: int) -> Any:
    kind: Any = _Word
    return kind(value)


def _joined(address: int) -> bool:
    try:
        libc("madvise", _word(address), _word(HUGE), MADV_COLLAPSE)
    except OSError:
        return False
    return True


def _is_own(fields: list[str]) -> bool:
    return fields[1] == "rw-p" and (len(fields) == 5 or fields[5] == "[heap]")


def _is_of_file(fields: list[str]) -> bool:
    return fields[1] in ("r-xp", "r--p") and len(fields) > 5 and fields[5].startswith("/")


def _ranges(wanted: Callable[[list[str]], bool]) -> list[tuple[int, int]]:
    """Mappings of this process (proc(5), /proc/pid/maps)."""
    ranges: list[tuple[int, int]] = []
    with open("/proc/self/maps") as file:
        for line in file:
            fields = line.split()
            if wanted(fields):
                start, _, end = fields[0].partition("-")
                ranges.append((int(start, 16), int(end, 16)))
    return ranges
