"""Where metrics may lie in a program's folders: a bounded look, and which of the files found there count.

Paths are relative to ``own``, the folder that holds all that the program may write.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from runyard.node.sweep import Tree

RECORDED = "state/metrics.jsonl"
"""What ``runyard.log`` writes to: ``RUNYARD_METRICS``."""
EVALUATIONS = "evaluation-metrics.txt"
EVENTS = "events.out.tfevents."
WORK = "work"
ROOTS = ("state", "logs", "result", WORK)
TENSORBOARD = "state/logs/tb"
MOST_FOLDERS = 1000
MOST_ENTRIES = 50_000
MOST_DEPTH = 10
MOST_FILES = 500
PASSED_OVER = frozenset({".git", "__pycache__", "node_modules", "site-packages", ".venv", "venv", ".cache"})

VARIABLES = {
    "JOB_STATE_DIR": "state",
    "LOG_DIR": "logs",
    "RESULT_DIR": "result",
    "MODEL_DIR": "work",
}


@dataclass(frozen=True, slots=True)
class Source:
    """A file with metrics. ``kind``: ``recorded``, ``evaluations`` or ``events``; ``group``: that of its folder."""

    path: str
    kind: str
    group: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What a look found: the sources, and whether it was the whole of the folders; ``bare``: it was, and outside of
    the working directory there are only folders."""

    sources: tuple[Source, ...]
    whole: bool
    bare: bool = False


def place_of(text: str) -> str | None:
    """A path of the manifest (``in:``), its variables written out, relative to ``own``; None for one that is outside.
    One without a variable is below the working directory."""
    words = text.strip()
    for name, folder in VARIABLES.items():
        for form in (f"${{{name}}}", f"${name}"):
            if words == form or words.startswith(form + "/"):
                return _inside(folder, words.removeprefix(form))
    return None if not words or words.startswith(("/", "~", "$")) else _inside("work", words)


def _inside(folder: str, rest: str) -> str | None:
    path = os.path.normpath(f"{folder}/{rest}")
    return path if path.split("/")[0] == folder else None


class Finder:
    """Looks for sources. ``kind`` and ``place``: where the manifest says that there are more (:func:`place_of`);
    ``subid``: the number of a trial, whose own folder is no group."""

    def __init__(self, kind: str = "none", place: str | None = None, subid: str = "") -> None:
        self._kind = kind
        self._place = place
        self._subid = subid

    def look(self, tree: Tree, visit: Callable[[str, int], None]) -> Found:
        """Look through the folders, the nearest first. ``visit`` is told of each, with its descriptor, before it is
        listed: what is made after that is not missed by somebody who watches it."""
        sources: list[Source] = []
        waiting = deque((root, 0) for root in ROOTS)
        folders = entries = 0
        bare = True
        while waiting and folders < MOST_FOLDERS and entries < MOST_ENTRIES and len(sources) < MOST_FILES:
            path, depth = waiting.popleft()
            at_work = path == WORK or path.startswith(WORK + "/")
            try:
                descriptor = tree.folder(path)
            except OSError:
                bare = bare and at_work
                continue  # it went, or it is no folder of the program's own any more
            try:
                visit(path, descriptor)
                folders += 1
                for entry in sorted(os.scandir(descriptor), key=lambda entry: entry.name):
                    entries += 1
                    below = f"{path}/{entry.name}"
                    if not entry.is_dir(follow_symlinks=False):
                        sources += self._source(below, path, entry.name)
                        bare = bare and at_work
                    elif depth < MOST_DEPTH and entry.name not in PASSED_OVER:
                        waiting.append((below, depth + 1))
                    else:
                        bare = bare and at_work
            except OSError:
                bare = bare and at_work
                continue
            finally:
                os.close(descriptor)
        return Found(tuple(sources[:MOST_FILES]), not waiting, bare and not waiting)

    def _source(self, path: str, folder: str, name: str) -> list[Source]:
        if path == RECORDED:
            return [Source(path, "recorded")]
        if name.startswith(EVENTS):
            return [Source(path, "events", self._group(folder))]
        if self._kind == "emetrics_file" and self._place in (path, folder):
            return [Source(path, "evaluations")] if self._place == path or name == EVALUATIONS else []
        if name == EVALUATIONS and (folder == "logs" or os.path.dirname(folder) == "logs"):
            below = folder.removeprefix("logs").strip("/")
            return [Source(path, "evaluations", "" if below == self._subid else below)]
        return []

    def _group(self, folder: str) -> str:
        """The name of an event file's folder, below the place where such folders are."""
        roots = [TENSORBOARD, *ROOTS]
        if self._kind == "tensorboard" and self._place is not None:
            roots.insert(0, self._place)
        for root in roots:
            if folder == root or folder.startswith(root + "/"):
                return folder[len(root) :].strip("/")
        return folder
