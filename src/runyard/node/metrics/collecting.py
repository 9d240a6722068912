"""Collecting metrics of all learners here: woken when their folders change, twice a second at most for each."""

from __future__ import annotations

import math
import os
import select
import threading
import time
from functools import partial

from runyard.node.home import AttemptFolder, Key, say
from runyard.node.inotify import IN_CREATE, IN_MODIFY, IN_MOVED_TO, IN_ONLYDIR, IN_Q_OVERFLOW, Inotify
from runyard.node.lanes import Crew, do_safely
from runyard.node.metrics.collector import Collector, look_at_end
from runyard.node.ship import Shipping

EVERY_S, SELDOM_S = 0.5, 5.0
"""Between two reads of a learner's metrics: more blocks a second would tell nobody more. A program that runs for long
is read more seldom, so that its points lie in few blocks and are read back fast (:func:`_pause_s`)."""
GATHER_S = 0.1
"""For so long changes are gathered before they are looked at."""
LOOK_COST = 20
"""A look through the folders is followed by so many times as long without one."""
POLL_S = 5.0
"""Where the kernel watches no folder, they are looked through as often."""
MOST_WATCHES = 256
AGAIN_S = 5.0
GIVE_UP = 12
"""Tries to write the last of the metrics of a learner onto a full disk."""


class _Learner:
    """What is known of one learner. ``look``: its folders changed; ``read``: its files did."""

    def __init__(self, folder: AttemptFolder, *, fresh: bool) -> None:
        self.folder = folder
        self.collector: Collector | None = None
        self.watches: dict[int, str] = {}
        self.polled = False
        self.look = self.read = True
        self.since = time.monotonic()
        self.due = time.monotonic() + (EVERY_S if fresh else 0.0)
        self.look_due = self.poll_at = 0.0
        self.busy = self.last = self.done = self.bare = False
        self.failures = 0


class Collecting:
    """All learners, a thread that listens to the kernel, and a crew that reads."""

    def __init__(self, shipping: Shipping) -> None:
        self._shipping = shipping
        self._inotify = Inotify()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._learners: dict[Key, _Learner] = {}
        self._crew = Crew("metrics", 2)
        self._wakes_at = 0.0
        """When the listener looks again by itself: earlier, it has to be woken."""
        self._deaf = False
        """All learners are to be read when they are due: until then what the kernel says may wait in its queue."""
        threading.Thread(target=self._work, name="collect", daemon=True).start()

    # -------------------------------------------------------------------------------------------------- from outside

    def open(self, folder: AttemptFolder, *, fresh: bool = False) -> None:
        """Collect a learner's metrics from now on. ``fresh``: the server cannot have any of them yet."""
        with self._lock:
            if folder.key in self._learners or not os.path.exists(folder.prepared):
                return
            self._learners[folder.key] = _Learner(folder, fresh=fresh)
            due = self._learners[folder.key].due
        self._shipping.open_spool(folder, fresh=fresh)
        if due < self._wakes_at:
            self._ring()

    def finish(self, folder: AttemptFolder) -> None:
        """All of a learner's program is gone: collect the rest, then its metrics are complete."""
        with self._lock:
            learner = self._learners.get(folder.key)
            if learner is None or learner.last:
                return
            learner.last = learner.look = learner.read = True
            learner.due = 0.0
            untouched = learner.collector is None and not learner.busy
            learner.busy |= untouched
        found = None
        try:
            found = look_at_end(folder) if untouched else None
        finally:
            nothing = found is not None and found.whole and not found.sources
            with self._lock:
                learner.busy &= not untouched
                learner.done |= nothing
                learner.bare = found is not None and found.bare
        if nothing:
            self._finished(learner)
        else:
            self._ring()

    def is_bare(self, folder: AttemptFolder) -> bool:
        """Whether the program of a learner, which is gone, is known to have left nothing but folders outside of its
        working directory."""
        with self._lock:
            learner = self._learners.get(folder.key)
            return learner is not None and learner.bare

    def forget(self, run: str) -> None:
        """Collect nothing more of a run: its folders are gone."""
        with self._lock:
            for key in [key for key in self._learners if key[0] == run]:
                learner = self._learners.pop(key)
                learner.done = True
                if not learner.busy:
                    self._close(learner)

    def _ring(self) -> None:
        os.eventfd_write(self._wake, 1)

    # ------------------------------------------------------------------------------------------------- the listener

    def _work(self) -> None:
        while True:
            do_safely(self._round)

    def _round(self) -> None:
        now = time.monotonic()
        wake_at: float | None = None
        if self._deaf:
            self._hear(self._inotify.events())
        with self._lock:
            self._deaf = all(learner.done or learner.busy or learner.read for learner in self._learners.values())
            for learner in self._learners.values():
                if learner.done or learner.busy:
                    continue
                at = _due(learner)
                if at is not None and at <= now:
                    learner.busy = True
                    self._crew.put(partial(self._turn, learner))
                elif at is not None:
                    wake_at = at if wake_at is None else min(at, wake_at)
            self._wakes_at = wake_at or math.inf
        self._wait(None if wake_at is None else max(0.0, wake_at - now))

    def _wait(self, seconds: float | None) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if not self._deaf:
            poll.register(self._inotify.fd, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(None if seconds is None else seconds * 1000 + 1)}
        if self._wake in ready:
            os.eventfd_read(self._wake)
        if self._inotify.fd in ready:
            # What a busy program does comes as one event after the other: the kernel gathers them meanwhile.
            gathering = select.poll()
            gathering.register(self._wake, select.POLLIN)
            gathering.poll(GATHER_S * 1000)
            self._hear(self._inotify.events())

    def _hear(self, events: dict[int, int]) -> None:
        lost = any(mask & IN_Q_OVERFLOW for mask in events.values())
        with self._lock:
            for learner in self._learners.values():
                masks = [events[watch] for watch in learner.watches if watch in events]
                learner.read |= lost or bool(masks)
                learner.look |= lost or any(mask & ~IN_MODIFY for mask in masks)

    # ----------------------------------------------------------------------------------------------------- the crew

    def _turn(self, learner: _Learner) -> None:
        """Look and read once for a learner; again at once where there is more."""
        more = False
        try:
            more = self._collect(learner)
        except OSError as error:
            more = self._failed(learner, error)
        except Exception:
            self._finished(learner)  # a mistake of ours must not hold up the run for ever
            raise
        finally:
            now = time.monotonic()
            with self._lock:
                learner.busy = False
                learner.read |= more
                pause = AGAIN_S if learner.failures else 0.0 if more or learner.last else _pause_s(learner, now)
                learner.due, learner.poll_at = now + pause, now + POLL_S
                if learner.done:
                    self._close(learner)
            self._ring()

    def _collect(self, learner: _Learner) -> bool:
        if learner.collector is None:
            learner.collector = Collector(learner.folder)
            if learner.collector.reads_log:
                self._watch(learner, learner.folder.log("training-log"), IN_MODIFY)
        collector = learner.collector
        with self._lock:
            now, last = time.monotonic(), learner.last
            polled = learner.polled and learner.poll_at <= now
            look = (learner.look or polled) and (last or learner.look_due <= now)
            learner.read = False
            learner.look = learner.look and not look
        if look:
            collector.look(partial(self._visit, learner))
            learner.look_due = time.monotonic() + LOOK_COST * (time.monotonic() - now)
        more = collector.read(last=last)
        self._shipping.spool_grew(learner.folder, collector.spool.size)
        learner.failures = 0
        if last and not more:
            self._finished(learner)
        return more

    def _failed(self, learner: _Learner, error: OSError) -> bool:
        if learner.failures == 0:
            say(f"The metrics of {learner.folder.name} cannot be written down: {error}")
        learner.failures += 1
        if learner.last and learner.failures > GIVE_UP:
            self._finished(learner)
        return True

    def _finished(self, learner: _Learner) -> None:
        size = learner.collector.spool.size if learner.collector is not None else 0
        learner.done = True
        self._shipping.spool_grew(learner.folder, size, complete=True)

    def _visit(self, learner: _Learner, path: str, descriptor: int, *, holds: bool) -> None:
        mask = IN_CREATE | IN_MOVED_TO | IN_ONLYDIR | (IN_MODIFY if holds else 0)
        if len(learner.watches) >= MOST_WATCHES and path not in learner.watches.values():
            learner.polled = True
        elif not learner.last:
            self._watch(learner, f"/proc/self/fd/{descriptor}", mask, path)

    def _watch(self, learner: _Learner, path: str, mask: int, name: str = "") -> None:
        try:
            watch = self._inotify.add(path, mask)
        except OSError:
            watch = None  # not to be read by this user, or gone
        with self._lock:
            if watch is None:
                learner.polled = True
            else:
                learner.watches[watch] = name or path

    def _close(self, learner: _Learner) -> None:
        for watch in learner.watches:
            self._inotify.remove(watch)
        learner.watches.clear()
        collector, learner.collector = learner.collector, None
        if collector is not None:
            collector.close()


def _pause_s(learner: _Learner, now: float) -> float:
    """Half a second in the first five minutes, five seconds after fifty: some 20,000 blocks a day at most."""
    return min(SELDOM_S, max(EVERY_S, (now - learner.since) / 600))


def _due(learner: _Learner) -> float | None:
    """When a learner is to be looked at, None: when something happens."""
    times: list[float] = []
    if learner.read:
        times.append(learner.due)
    if learner.look:
        times.append(max(learner.due, learner.look_due))
    if learner.polled:
        times.append(learner.poll_at)
    return min(times, default=None)
