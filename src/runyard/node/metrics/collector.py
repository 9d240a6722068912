"""The metrics of one learner of an attempt: every source of it, read as it grows, into one spool."""

from __future__ import annotations

import os
from typing import Protocol

from runyard.node.became import now_ms
from runyard.node.home import AttemptFolder, read_record
from runyard.node.metrics.finding import Finder, Found, Source, place_of
from runyard.node.metrics.gathering import Gathering
from runyard.node.metrics.lines import Evaluations, Recorded
from runyard.node.metrics.regexes import Expressions
from runyard.node.metrics.spool import Spool
from runyard.node.metrics.tfevents import BrokenFile, Events
from runyard.node.prepare import read_order
from runyard.node.sweep import Tree
from runyard.node.workdir import prepared_ns
from runyard.wire.orders import Evaluation

WINDOW = 1 << 20
"""Bytes of a source that are read at once."""
BLOCK = 20_000
"""Points of a block, about."""
LOG = "log"
"""The training log, as a source."""

OUTSIDE = "`evaluation_metrics.in` must lie below JOB_STATE_DIR, LOG_DIR, RESULT_DIR or MODEL_DIR: it is not looked at."
TOO_MANY = "The program's folders hold more than is looked through for metrics: those far down may be missing."


class Visit(Protocol):
    """Is told of every folder that was looked at: its path below ``own``, its descriptor, whether sources lie in it."""

    def __call__(self, path: str, descriptor: int, *, holds: bool) -> None: ...


def look_at_end(folder: AttemptFolder) -> Found | None:
    """What the program of a learner, which is gone, has left: a look through its folders that tells for most short
    programs that there is nothing to be collected. None: there is, or there was before, as is known without it."""
    if os.path.exists(folder.spool):
        return None
    kept = read_order(folder)
    if kept is None or kept.evaluation.groups or kept.evaluation.source:
        return None
    try:
        with Tree(folder.path, "own", kept.uid) as tree:
            return Finder().look(tree, _not_watched)
    except OSError:
        return None


def _not_watched(_path: str, _descriptor: int) -> None:
    """Nothing comes after the look."""


class Collector:
    """Reads the sources of one learner. Used by one thread at a time."""

    def __init__(self, folder: AttemptFolder) -> None:
        """Raises ``OSError`` when the spool cannot be opened."""
        self.folder = folder
        kept = read_order(folder)
        evaluation = kept.evaluation if kept is not None else Evaluation()
        self._uid = kept.uid if kept is not None else None
        self._prepared_ns = prepared_ns(folder)
        self.spool = Spool(folder.spool)
        self._gathering = Gathering(self.spool.names, self.spool.points, self.spool.notes)
        place = place_of(evaluation.source) if evaluation.source else None
        if evaluation.source and place is None and evaluation.type in ("tensorboard", "emetrics_file"):
            self._gathering.note(OUTSIDE)
        subid = kept.env.get("SUBID", "") if kept is not None else ""
        self._finder = Finder(evaluation.type, place, subid)
        groups = evaluation.groups if evaluation.type == "regex_extractor" else ()
        self._expressions = Expressions(groups, self._gathering, now_ms) if groups else None
        self._sources: dict[str, Source] = {}
        self._readers: dict[str, Recorded | Evaluations | Events] = {}
        self._passed_over: set[str] = set()
        self.reads_log = bool(groups)

    def close(self) -> None:
        """Let go of everything."""
        if self._expressions is not None:
            self._expressions.close()
        self.spool.close()

    # ---------------------------------------------------------------------------------------------------------- look

    def look(self, visit: Visit) -> None:
        """Look for sources that are new."""
        try:
            tree = Tree(self.folder.path, "own", self._uid)
        except OSError:
            return
        with tree:
            places = {os.path.dirname(path) for path in self._sources}
            found = self._finder.look(tree, lambda path, fd: visit(path, fd, holds=path in places or path == "state"))
            fresh = [source for source in found.sources if source.path not in self._sources]
            for source in fresh:
                self._sources[source.path] = source
            new_places = {os.path.dirname(source.path) for source in fresh} - places
            for place in new_places:
                _visit_again(tree, place, visit)
        if not found.whole:
            self._gathering.note(TOO_MANY)

    # ---------------------------------------------------------------------------------------------------------- read

    def read(self, *, last: bool) -> bool:
        """Read what is new in every source and put it into the spool; says whether there is more to read now. ``last``:
        the program is gone, so that a last line without its end is one. Raises ``OSError`` when the disk is full."""
        self.spool.flush()
        more = self._read_log(last=last)
        try:
            tree = Tree(self.folder.path, "own", self._uid)
        except OSError:
            tree = None  # the program removed it, or there never was one
        if tree is not None:
            with tree:
                for source in list(self._sources.values()):
                    more |= self._read_source(tree, source, last=last)
                    if self._gathering.fresh >= BLOCK:
                        self._put()
        self._put()
        return more

    def _put(self) -> None:
        self.spool.put(*self._gathering.take())

    def _read_source(self, tree: Tree, source: Source, *, last: bool) -> bool:
        if source.path in self._passed_over:
            return False
        try:
            descriptor = tree.open(source.path)
        except OSError:
            return False  # it went, or is no plain file of the program's own
        try:
            facts = os.fstat(descriptor)
            if source.kind == "events" and facts.st_ctime_ns <= self._prepared_ns:
                return False  # it came with the code
            inode, offset = self.spool.cursors.get(source.path, (facts.st_ino, 0))
            if inode != facts.st_ino or facts.st_size < offset:
                offset = 0  # another file of that name, or one that was begun again
                self._readers.pop(source.path, None)
            if facts.st_size == offset:
                return False
            data = os.pread(descriptor, WINDOW, offset)
        finally:
            os.close(descriptor)
        taken = self._take(source, data, facts.st_size - offset, last=last and offset + len(data) >= facts.st_size)
        self.spool.read_to(source.path, (facts.st_ino, offset + taken))
        return taken > 0 and offset + taken < facts.st_size

    def _take(self, source: Source, data: bytes, size: int, *, last: bool) -> int:
        reader = self._readers.get(source.path)
        if reader is None:
            reader = self._readers[source.path] = self._reader(source)
        if isinstance(reader, Events):
            try:
                return reader.take(data, size)
            except BrokenFile:
                self._passed_over.add(source.path)
                return 0
        return reader.take(data, last=last)

    def _reader(self, source: Source) -> Recorded | Evaluations | Events:
        what = os.path.basename(source.path)
        if source.kind == "events":
            return Events(what, self._gathering, source.group)
        if source.kind == "evaluations":
            return Evaluations(what, self._gathering, source.group, now_ms)
        return Recorded("runyard.log's file", self._gathering)

    def _read_log(self, *, last: bool) -> bool:
        if self._expressions is None:
            return False
        _, offset = self.spool.cursors.get(LOG, (0, 0))
        try:
            descriptor = os.open(self.folder.log("training-log"), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            end = self._log_end(os.fstat(descriptor).st_size)
            offset = _behind_a_hole(descriptor, offset)
            data = os.pread(descriptor, min(WINDOW // 4, max(0, end - offset)), offset)
        finally:
            os.close(descriptor)
        if not data:
            return False
        taken = self._expressions.take(data, last=last and offset + len(data) >= end)
        self.spool.read_to(LOG, (0, offset + taken))
        return taken > 0 and offset + taken < end

    def _log_end(self, size: int) -> int:
        """How far the log is what the program wrote: a log over its limit is written anew from its cut on."""
        rest = read_record(self.folder.log_rest)
        cut = rest.get("cut") if rest is not None else None
        return min(size, cut) if isinstance(cut, int) else size


def _behind_a_hole(descriptor: int, offset: int) -> int:
    """Where there is something to read again: beyond its limit, a log has given its blocks back."""
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError:
        return offset  # nothing comes after it


def _visit_again(tree: Tree, place: str, visit: Visit) -> None:
    try:
        descriptor = tree.folder(place)
    except OSError:
        return
    try:
        visit(place, descriptor, holds=True)
    finally:
        os.close(descriptor)
