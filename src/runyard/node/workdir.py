"""What a program wrote in its working directory, outside ``RESULT_DIR``: what of it is kept, and how that is told."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from runyard.node.evidence import human
from runyard.node.home import AttemptFolder
from runyard.node.limits import DEFAULTS
from runyard.node.log_limit import mebibytes
from runyard.node.prepare import limits_of, read_order
from runyard.node.sweep import Found, LeftOut, Tree

MOST_LINES = 50
BYTE_CODE = "__pycache__"
EVENT_FILES = "events.out.tfevents."
LONGEST_PATH = 300
"""Letters of a path that a line shows."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What of a working directory is kept; what is not, because of the limit (in bytes), or for another reason;
    ``byte_code``: how many files of Python's own there are besides. All in the order of their names."""

    kept: tuple[Found, ...] = ()
    over: tuple[Found, ...] = ()
    unread: tuple[LeftOut, ...] = ()
    byte_code: int = 0
    limit: int = DEFAULTS.workdir

    @property
    def left_out(self) -> Iterator[LeftOut]:
        """What is not kept, and why."""
        for file in self.over:
            yield LeftOut(file.path, over_limit(file, self.limit))
        yield from self.unread


def choose(
    found: Iterable[Found | LeftOut], prepared_ns: int, outputs: Sequence[str], limit: int = DEFAULTS.workdir
) -> Choice:
    """From the files of a working directory those that are kept: what ``outputs`` names, and what is new or changed
    since ``prepared_ns``, the newest first, while they fit. Byte code is not kept unless it is named."""
    kept: list[Found] = []
    changed: list[Found] = []
    unread: list[LeftOut] = []
    byte_code = 0
    for file in found:
        if isinstance(file, LeftOut):
            unread.append(file)
        elif is_named(file.path, outputs):
            kept.append(file)
        elif file.changed_ns > prepared_ns:
            if BYTE_CODE in file.path.split("/"):
                byte_code += 1
            else:
                changed.append(file)
    over: list[Found] = []
    size = 0
    for file in sorted(changed, key=lambda file: -file.changed_ns):
        fits = size + file.size <= limit
        size += file.size if fits else 0
        (kept if fits else over).append(file)
    return Choice(_by_name(kept), _by_name(over), tuple(unread), byte_code, limit)


def _by_name(files: Iterable[Found]) -> tuple[Found, ...]:
    return tuple(sorted(files, key=lambda file: file.path))


def is_named(path: str, outputs: Sequence[str]) -> bool:
    """Whether a pattern names a path: as a glob (``*`` also across folders), or as a folder above it."""
    return any(
        fnmatchcase(path, pattern) or path.startswith(pattern.rstrip("/") + "/")
        for pattern in (pattern.removeprefix("./") for pattern in outputs)
    )


def prepared_ns(folder: AttemptFolder) -> int:
    """When the working directory was as the node made it; 0 when it never was."""
    try:
        return os.stat(folder.prepared).st_ctime_ns
    except FileNotFoundError:
        return 0


def choose_from(tree: Tree, folder: AttemptFolder, outputs: Sequence[str]) -> Choice:
    """What is kept of the working directory of an attempt, which ``tree`` is."""
    return choose(tree.walk(), prepared_ns(folder), outputs, limits_of(folder).workdir)


def look_at_work(folder: AttemptFolder) -> Choice | None:
    """The same for a folder that is not open; None when it cannot be looked at."""
    kept = read_order(folder)
    if kept is None:
        return None
    try:
        with Tree(folder.path, "own/work", kept.uid) as tree:
            return choose_from(tree, folder, kept.outputs)
    except OSError:
        return None


def over_limit(file: Found, limit: int) -> str:
    """Why a file of a working directory is not kept."""
    return f"{human(file.size)}, over the limit of {mebibytes(limit)}: name it in `outputs`, or use RESULT_DIR"


# --------------------------------------------------------------------------------------------- as it stands in the log


def lines_of(choice: Choice, place: str) -> Iterator[str]:
    """What the log says of it at its end; nothing, when the program wrote nothing there. ``place``: where kept files
    are."""
    if choice.kept:
        size = human(sum(file.size for file in choice.kept))
        count = f"{len(choice.kept)} file{'s' if len(choice.kept) > 1 else ''}, {size}"
        yield f"Written in the working directory, outside RESULT_DIR, and kept in {place} ({count}):"
        yield from _at_most([(text, size) for text, size in _kept(choice.kept)])
    if choice.over:
        yield (
            f"NOT kept, because together they are over the limit of {mebibytes(choice.limit)} "
            "(name them in `outputs`, or write to RESULT_DIR):"
        )
        yield from _at_most([(f"{shown(file.path)} ({human(file.size)})", file.size) for file in choice.over])
    if choice.unread:
        yield "NOT kept, because they are no files of the program's own:"
        yield from _at_most([(f"{shown(left.path)}: {left.why}", 0) for left in choice.unread])
    if choice.byte_code and (choice.kept or choice.over or choice.unread):
        yield f"Byte code is not kept ({choice.byte_code} file{'s' if choice.byte_code > 1 else ''} in {BYTE_CODE})."


def _kept(files: Sequence[Found]) -> Iterator[tuple[str, int]]:
    """A line a file, but one for all TensorBoard event files of a folder, with the size that it speaks of."""
    counts, sizes = Counter[str](), Counter[str]()
    for file in files:
        folder, _, name = file.path.rpartition("/")
        if name.startswith(EVENT_FILES):
            counts[folder] += 1
            sizes[folder] += file.size
    for file in files:
        folder, _, name = file.path.rpartition("/")
        if not name.startswith(EVENT_FILES):
            yield f"{shown(file.path)} ({human(file.size)})", file.size
        elif counts[folder]:
            words = "TensorBoard event file" if counts[folder] == 1 else f"{counts[folder]} TensorBoard event files"
            yield f"{shown(folder) or '.'}/: {words} ({human(sizes[folder])})", sizes[folder]
            counts[folder] = 0


def _at_most(rows: Sequence[tuple[str, int]]) -> Iterator[str]:
    for text, _ in rows[:MOST_LINES]:
        yield f"  {text}"
    more = rows[MOST_LINES:]
    if more:
        size = sum(size for _, size in more)
        yield f"  and {len(more)} more" + (f", {human(size)}" if size else "")


def shown(path: str) -> str:
    """A path on one line, whatever is in its name."""
    text = "".join(letter if letter.isprintable() else "?" for letter in path)
    return text if len(text) <= LONGEST_PATH else f"{text[:LONGEST_PATH]}..."
