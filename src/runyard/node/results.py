"""What of a run goes to the results bucket, and under which keys (the layout is binding for old clients)."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from runyard.node.home import LEARNER, STREAM_FILES, AttemptFolder
from runyard.node.prepare import read_order
from runyard.node.sweep import Found, LeftOut, Tree
from runyard.node.workdir import choose_from
from runyard.stores.errors import StoreError
from runyard.stores.keys import check_key


@dataclass(frozen=True, slots=True)
class Upload:
    """One object to be: its key below ``<run>/`` and how to open the file behind it (``OSError`` when it cannot be)."""

    key: str
    size: int
    open: Callable[[], int] = field(repr=False)


@contextmanager
def gathered(
    learners: Sequence[AttemptFolder],
    earlier: Sequence[AttemptFolder],
    outputs: Sequence[str],
    taken: Collection[str] = (),
    *,
    bare: bool = False,
    untouched: bool = False,
) -> Generator[tuple[list[Upload], list[LeftOut]]]:
    """What is to be stored of a run's attempts (checkpoints apart), and what is left out and why.

    ``learners``: of the last attempt, the first one first; ``earlier``: of those before it, whose logs go along. Logs
    come before what the program may have put in their places. ``taken``: keys that are stored otherwise; ``bare``: in
    ``RESULT_DIR``, ``LOG_DIR`` and ``JOB_STATE_DIR`` there is nothing, as is known; ``untouched``: in the working
    directory nothing is to be kept. The folders are held open for as long as the context lasts.
    """
    with ExitStack() as stack:
        gathering = _Gathering(stack, taken, bare=bare)
        for folder in learners:
            gathering.logs(folder, f"{LEARNER}{folder.learner}")
        for old in earlier:
            gathering.logs(old, f"attempts/{old.number}/{LEARNER}{old.learner}")
        for folder in () if untouched else learners:
            gathering.work(folder, outputs)
        if not bare:
            gathering.results(learners[0])
        yield list(gathering.uploads.values()), gathering.left_out


class _Gathering:
    def __init__(self, stack: ExitStack, taken: Collection[str], *, bare: bool) -> None:
        self._stack = stack
        self._bare = bare
        self._taken = taken
        self.uploads: dict[str, Upload] = {}
        self.left_out: list[LeftOut] = []

    def results(self, folder: AttemptFolder) -> None:
        """``RESULT_DIR`` as a whole: all learners have the same."""
        self._tree(folder, "own/result", "")

    def work(self, folder: AttemptFolder, outputs: Sequence[str]) -> None:
        """What is kept of the working directory."""
        tree = self._open(folder, "own/work")
        if tree is None:
            return
        choice = choose_from(tree, folder, outputs)
        for file in choice.kept:
            self._add(folder.workdir_key + file.path, tree, file)
        self.left_out += [LeftOut(folder.workdir_key + left.path, left.why) for left in choice.left_out]

    def logs(self, folder: AttemptFolder, place: str) -> None:
        """Our own logs, then what the program wrote to ``LOG_DIR`` and ``JOB_STATE_DIR/logs``."""
        for name in STREAM_FILES.values():
            path = f"{folder.path}/{name}"
            try:
                size = os.stat(path).st_size
            except (FileNotFoundError, NotADirectoryError):
                continue
            key = f"{place}/{name}"
            self.uploads[key] = Upload(key, size, lambda path=path: os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        if self._bare:
            return
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
