"""What of a run goes to the results bucket, and under which keys (the layout is binding for old clients)."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from runyard.node.evidence import human
from runyard.node.home import STREAM_FILES, AttemptFolder
from runyard.node.prepare import read_order
from runyard.node.sweep import Found, LeftOut, Tree
from runyard.stores.errors import StoreError
from runyard.stores.keys import check_key

WORKDIR_LIMIT = 200 << 20
"""Bytes kept from a working directory, what ``outputs`` names not counted."""
LEARNER = "learner-1"


@dataclass(frozen=True, slots=True)
class Upload:
    """One object to be: its key below ``<run>/`` and how to open the file behind it (``OSError`` when it cannot be)."""

    key: str
    size: int
    open: Callable[[], int] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Choice:
    """What of a working directory is kept, and what is not because of the limit."""

    kept: tuple[Found, ...]
    over: tuple[Found, ...]


def choose(found: Iterable[Found], prepared_ns: int, outputs: Sequence[str], limit: int = WORKDIR_LIMIT) -> Choice:
    """From the files of a working directory those that are kept: what ``outputs`` names, and what is new or changed
    since ``prepared_ns``, in the order of their names, while they fit. Byte code is not kept unless it is named."""
    kept: list[Found] = []
    over: list[Found] = []
    size = 0
    for file in found:
        if is_named(file.path, outputs):
            kept.append(file)
        elif file.changed_ns <= prepared_ns or "__pycache__" in file.path.split("/"):
            continue
        elif size + file.size <= limit:
            size += file.size
            kept.append(file)
        else:
            over.append(file)
    return Choice(tuple(kept), tuple(over))


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


@contextmanager
def gathered(
    folder: AttemptFolder, earlier: Sequence[AttemptFolder], outputs: Sequence[str], taken: Collection[str] = ()
) -> Generator[tuple[list[Upload], list[LeftOut]]]:
    """What is to be stored of a run's attempts (checkpoints apart), and what is left out and why.

    Logs come before what the program may have put in their places. ``taken``: keys that are stored otherwise. The
    folders are held open for as long as the context lasts.
    """
    with ExitStack() as stack:
        gathering = _Gathering(stack, taken)
        gathering.logs(folder, LEARNER)
        for old in earlier:
            gathering.logs(old, f"attempts/{old.number}/{LEARNER}")
        gathering.work(folder, outputs)
        gathering.results(folder)
        yield list(gathering.uploads.values()), gathering.left_out


class _Gathering:
    def __init__(self, stack: ExitStack, taken: Collection[str]) -> None:
        self._stack = stack
        self._taken = taken
        self.uploads: dict[str, Upload] = {}
        self.left_out: list[LeftOut] = []

    def results(self, folder: AttemptFolder) -> None:
        """``RESULT_DIR`` as a whole."""
        self._tree(folder, "own/result", "")

    def work(self, folder: AttemptFolder, outputs: Sequence[str]) -> None:
        """What is kept of the working directory."""
        tree = self._open(folder, "own/work")
        if tree is None:
            return
        choice = choose(files_of(tree), prepared_ns(folder), outputs)
        for file in choice.kept:
            self._add("workdir/" + file.path, tree, file)
        self.left_out += [LeftOut("workdir/" + file.path, over_limit(file)) for file in choice.over]

    def logs(self, folder: AttemptFolder, place: str) -> None:
        """Our own logs, then what the program wrote to ``LOG_DIR`` and ``JOB_STATE_DIR/logs``."""
        for name in STREAM_FILES.values():
            path = f"{folder.path}/{name}"
            if os.path.exists(path):
                key = f"{place}/{name}"
                size = os.stat(path).st_size
                self.uploads[key] = Upload(key, size, lambda path=path: os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        self._tree(folder, "own/logs", place + "/")
        self._tree(folder, "own/state/logs", place + "/")

    def _tree(self, folder: AttemptFolder, inside: str, prefix: str) -> None:
        tree = self._open(folder, inside)
        if tree is None:
            return
        for found in tree.walk():
            if isinstance(found, LeftOut):
                self.left_out.append(LeftOut(prefix + found.path, found.why))
            else:
                self._add(prefix + found.path, tree, found)

    def _open(self, folder: AttemptFolder, inside: str) -> Tree | None:
        kept = read_order(folder)
        try:
            return self._stack.enter_context(Tree(folder.path, inside, None if kept is None else kept.uid))
        except OSError:
            return None  # no program ever had it, or it removed it

    def _add(self, key: str, tree: Tree, file: Found) -> None:
        try:
            check_key(key)
        except StoreError as error:
            self.left_out.append(LeftOut(key, error.message))
            return
        if key in self.uploads or key in self._taken:
            self.left_out.append(LeftOut(key, "its place belongs to something else that is stored"))
        else:
            self.uploads[key] = Upload(key, file.size, lambda: tree.open(file.path))


def files_of(tree: Tree) -> Iterable[Found]:
    """The plain files of a folder."""
    return (found for found in tree.walk() if isinstance(found, Found))


def over_limit(file: Found) -> str:
    """Why a file of a working directory is not kept."""
    return f"{human(file.size)}, over the limit of {WORKDIR_LIMIT >> 20} MiB: name it in `outputs`, or use RESULT_DIR"
