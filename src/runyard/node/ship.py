"""Log bytes to the server, as they come: ranges of files, from the offset that the server says it has."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from runyard.node.company import Company
from runyard.node.home import STREAM_FILES, AttemptFolder, Key, say
from runyard.node.inotify import IN_MODIFY, IN_ONESHOT, Inotify
from runyard.node.lanes import do_safely
from runyard.node.link import Backoff, Link, Refused, Unreachable
from runyard.node.log_limit import is_settled, read_shippable, settle, shippable
from runyard.node.prepare import limits_of
from runyard.node.ranges import MOST, SMALL, Range, Ranges

CHUNK = 1 << 20
STEADY_S, STEADY_AFTER, OFTEN_S = 0.5, 10, 1.0
"""A log that was sent so many times, each so soon after the last, is looked at more seldom: each look costs time that
the program could have had."""
COALESCE_S = 0.05
"""The server's index of times is as fine as this: more requests a second would tell nobody more."""
POLL_S = 1.0
GONE = (404, 410)
METRICS = "metrics"
"""The name of a learner's spool among its streams."""

Then = Callable[[], None]


class _Size(msgspec.Struct):
    size: int


@dataclass(slots=True, eq=False)
class Stream:
    """One file on its way. ``acked``: what the server has, None when it has yet to be asked; ``final``: the size at
    which it is complete, None while it may grow."""

    folder: AttemptFolder
    name: str
    acked: int | None
    final: int | None = None
    dirty: bool = True
    watch: int | None = None
    polled: bool = False
    """It grows, and the kernel would not watch it."""
    steady: int = 0
    """How many times it was sent soon after the last time."""
    sent_at: float = 0.0
    """When it was last sent, by ``time.monotonic``."""
    growing: bool = False
    """It was written to a moment ago, and is looked at again soon instead of being watched: the kernel's word on each
    write costs the program half as much as the write."""
    renewals: int = 0
    """An answer from before the last of them says nothing any more."""
    limit: int = 0
    """What lies beyond is not shipped; 0: there is no such limit."""

    committed: int | None = None
    """Of a spool of metrics: bytes that are whole and on the disk. None: it is a log."""

    @property
    def url(self) -> str:
        """Where it goes."""
        if self.committed is not None:
            return f"/metrics/{self.folder.run}/{self.folder.number}/{self.folder.learner}"
        return f"/logs/{self.folder.run}/{self.folder.number}/{self.folder.learner}/{self.name}"

    @property
    def done(self) -> bool:
        """Whether the server has all of it."""
        return self.final is not None and self.acked is not None and self.acked >= self.final


class Companion(Protocol):
    """Does something else for each learner whose logs are shipped."""

    def open(self, folder: AttemptFolder, *, fresh: bool = False) -> None:
        """The learner's program may run."""
        ...

    def finish(self, folder: AttemptFolder) -> None:
        """All of its program is gone."""
        ...

    def forget(self, run: str) -> None:
        """The run's folders are gone."""
        ...


class Shipping:
    """All streams of all learners here, and the thread that sends them. ``companion``: who collects their metrics."""

    def __init__(self, link: Link, company: Company | None = None) -> None:
        self._link = link
        self._company = company or Company()
        self._inotify = Inotify()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._streams: dict[tuple[Key, str], Stream] = {}
        self._waiters: list[tuple[str, Then]] = []
        self._ranges = Ranges(link)
        self._in_step = False
        """The thread sleeps until steady logs are looked at again: points that come meanwhile go with them."""
        self.companion: Companion | None = None
        self.is_known: Callable[[tuple[str, int]], bool] = lambda _attempt: True
        """Whether the server has a place for what is shipped of an attempt (a run and a number)."""
        threading.Thread(target=self._work, name="ship", daemon=True).start()

    def open(self, folder: AttemptFolder, *, fresh: bool = False) -> None:
        """Ship a learner's logs from now on. ``fresh``: the server cannot have any of them yet."""
        self._open(folder, fresh=fresh)
        self._ring()

    def _open(self, folder: AttemptFolder, *, fresh: bool = False) -> None:
        with self._lock:
            for name in STREAM_FILES:
                key = (folder.key, name)
                if key not in self._streams and os.path.exists(folder.log(name)):
                    stream = self._streams[key] = Stream(folder, name, 0 if fresh else None)
                    if name == "training-log":
                        stream.limit = limits_of(folder).log
                        self._watch(stream)
        if self.companion is not None:
            self.companion.open(folder, fresh=fresh)

    def finish(self, folder: AttemptFolder) -> None:
        """A learner's logs grow no more: ship them to their end."""
        try:
            settle(folder, limits_of(folder).log)
        except OSError as error:
            say(f"The log of {folder.name} could not be brought below its limit: {error}")
        self._open(folder)
        with self._lock:
            for stream in self._of(folder.run):
                if stream.folder.key == folder.key and stream.committed is None:
                    stream.limit = 0 if is_settled(folder, stream.limit) else stream.limit
                    stream.final = _size(stream)
                    stream.dirty |= not stream.done
                    self._unwatch(stream)
        if self.companion is not None:
            self.companion.finish(folder)
        self._ring()

    def open_spool(self, folder: AttemptFolder, *, fresh: bool) -> None:
        """Ship a learner's metrics from now on, as far as they are committed (:meth:`spool_grew`)."""
        with self._lock:
            stream = Stream(folder, METRICS, 0 if fresh else None, dirty=not fresh, committed=0)
            self._streams.setdefault((folder.key, METRICS), stream)
        if not fresh:
            self._ring()

    def spool_grew(self, folder: AttemptFolder, size: int, *, complete: bool = False) -> None:
        """So much of a learner's metrics is on the disk; ``complete``: that is all of them."""
        with self._lock:
            stream = self._streams.get((folder.key, METRICS))
            if stream is None or (stream.committed == size and not complete):
                return
            stream.committed = size
            if complete and stream.final is None:
                stream.final = size
            stream.dirty |= not stream.done
            awaited = (stream.dirty and (complete or not self._in_step)) or bool(self._waiters)
        if awaited:
            self._ring()

    def renew(self) -> None:
        """The server may have forgotten the last of what it had: ask it about every stream."""
        with self._lock:
            for stream in self._streams.values():
                stream.acked = None
                stream.dirty = True
                stream.renewals += 1
        self._ranges.are_taken = True  # it may be another server
        self._ring()

    def when_done(self, run: str, then: Then) -> None:
        """Call ``then`` once the server has all logs of a run (or the run is gone there): now, or from the
        shipping thread."""
        with self._lock:
            done = self._is_done(run)
            if not done:
                self._waiters.append((run, then))
        if done:
            then()
        else:
            self._ring()

    def forget(self, run: str) -> None:
        """Ship nothing more of a run."""
        with self._lock:
            for stream in self._of(run):
                self._unwatch(stream)
                del self._streams[stream.folder.key, stream.name]
        if self.companion is not None:
            self.companion.forget(run)

    def is_done(self, run: str) -> bool:
        """Whether the server has all logs of a run."""
        with self._lock:
            return self._is_done(run)

    def _is_done(self, run: str) -> bool:
        return all(stream.done for stream in self._of(run))

    def _of(self, run: str) -> list[Stream]:
        return [stream for stream in self._streams.values() if stream.folder.run == run]

    def _watch(self, stream: Stream) -> None:
        stream.watch = self._inotify.add(stream.folder.log(stream.name), IN_MODIFY | IN_ONESHOT)
        stream.polled = stream.watch is None

    def _unwatch(self, stream: Stream) -> None:
        stream.polled = stream.growing = False
        if stream.watch is not None:
            self._inotify.remove(stream.watch)
            stream.watch = None

    def _ring(self) -> None:
        os.eventfd_write(self._wake, 1)

    # ------------------------------------------------------------------------------------------------- the thread

    def _work(self) -> None:
        backoff = Backoff()
        while True:
            do_safely(lambda: self._round(backoff))

    def _round(self, backoff: Backoff) -> None:
        with self._lock:
            changed = [stream for stream in self._streams.values() if stream.dirty]
        dirty = [stream for stream in changed if self.is_known((stream.folder.run, stream.folder.number))]
        if changed and not dirty:
            self._wait(COALESCE_S, growth=False)
            return
        if not dirty:
            self._answer_waiters()
            if not self._still_growing():
                self._wait(self._poll_growth(), growth=True)
            return
        more, well = False, True
        try:
            alone = self._send_together(dirty)
        except Refused:
            alone = dirty  # one by one it shows which of them are refused
        except Unreachable:
            alone, well = [], False
        for stream in alone:
            try:
                more |= self._send(stream)
            except Unreachable:
                well = False
                break
            except Refused:
                well = False
        self._answer_waiters()
        if not well:
            self._wait(backoff.pause_s(), growth=False)
            return
        backoff.reset()
        if not more:
            self._rest(STEADY_S if _are_steady(dirty) else COALESCE_S)

    def _still_growing(self) -> bool:
        """Look at what was written to a moment ago: what was again is dirty, what was not is watched again. Says
        whether anything was."""
        found = False
        with self._lock:
            for stream in [stream for stream in self._streams.values() if stream.growing]:
                if _size(stream) == stream.acked:
                    stream.growing = False
                    self._rewatch(stream)
                stream.dirty |= stream.growing or _size(stream) != stream.acked
                found |= stream.dirty
        return found

    def _rewatch(self, stream: Stream) -> None:
        try:
            self._watch(stream)
        except FileNotFoundError:
            stream.polled = False  # it was released just now

    def _poll_growth(self) -> float | None:
        """How long to sleep where files have to be looked at; they are looked at then. None: there are none."""
        with self._lock:
            polled = [stream for stream in self._streams.values() if stream.polled]
            for stream in polled:
                stream.dirty = True
        return POLL_S if polled else None

    def _rest(self, seconds: float) -> None:
        """After a request: sleep so long, or until something rings, but no shorter than what comes needs to gather."""
        begun = time.monotonic()
        with self._lock:
            self._in_step = seconds >= STEADY_S and not any(stream.dirty for stream in self._streams.values())
        self._wait(seconds, growth=False)
        with self._lock:
            self._in_step = False
        left = begun + self._company.patience_s() - time.monotonic()
        if left > 0:
            self._company.wait(left)

    def _wait(self, seconds: float | None, *, growth: bool) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if growth:
            poll.register(self._inotify.fd, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(None if seconds is None else seconds * 1000)}
        if self._wake in ready:
            os.eventfd_read(self._wake)
        grown = self._inotify.changed()
        if grown:
            with self._lock:
                for stream in self._streams.values():
                    if stream.watch in grown:
                        stream.dirty = stream.growing = True
                        stream.watch = None  # it told once, and went

    def _send(self, stream: Stream) -> bool:
        """Send one range; says whether the next one should follow at once.

        Raises :class:`Unreachable` or :class:`Refused`; the stream is dirty then.
        """
        stream.dirty = False
        try:
            return self._send_range(stream)
        except Refused as error:
            if error.status not in GONE:
                stream.dirty = True
                raise
            what = "log" if stream.committed is None else "metrics"
            say(f"The server has no place for the {what} of {stream.folder.name} any more.")
            stream.final = stream.acked = 0
        except FileNotFoundError:
            stream.final = stream.acked = 0
        except Unreachable:
            stream.dirty = True
            raise
        return False

    def _send_together(self, dirty: Sequence[Stream]) -> list[Stream]:
        """Send what is small of several streams in one request; returns the streams that have to be sent one by one.
        Raises as :meth:`_send` does; what was to be sent is dirty then."""
        if not self._ranges.are_taken:
            return list(dirty)
        alone: list[Stream] = []
        parts: list[tuple[Stream, int, Range]] = []
        room = MOST
        for stream in dirty:
            part = _small_range(stream) if room > 0 else None
            if part is None:
                alone.append(stream)
            else:
                parts.append((stream, stream.renewals, part))
                room -= len(part.content)
        sizes: list[int] | None = None
        try:
            sizes = self._ranges.send([part for _, _, part in parts]) if parts else []
        finally:
            if sizes is None:
                for stream, _, _ in parts:
                    stream.dirty = True
        for (stream, renewals, part), size in zip(parts, sizes or [], strict=False):
            if size < 0 or size == part.offset:
                alone.append(stream)  # there is no place for it, or nothing of it was kept: what is wrong shows there
            else:
                self._took(stream, renewals, part.offset, size)
        return alone if sizes is not None else list(dirty)

    def _send_range(self, stream: Stream) -> bool:
        renewals, before = stream.renewals, stream.acked
        if before is None:
            before = _told(self._link.ask("GET", stream.url + "/size"))
        return self._took(stream, renewals, before, self.put(stream, before, stream.final))

    def _took(self, stream: Stream, renewals: int, before: int, after: int) -> bool:
        """The server has a stream up to ``after``; says whether the next range should follow at once."""
        size = _size(stream)
        with self._lock:
            left = (size if stream.final is None else min(size, stream.final)) - after
            current = renewals == stream.renewals
            stream.acked = after if current else None
            stream.dirty = stream.dirty or left > 0 or not current
            return left >= CHUNK or (left > 0 and (stream.final is not None or after < before))

    def put(self, stream: Stream, before: int, final: int | None) -> int:
        """Send a range from an offset; returns the offset to go on from.

        ``final``: the stream's, from before anything is read: should it come in between, what was read was not yet all.
        """
        most = CHUNK if final is None else min(CHUNK, max(0, final - before))
        chunk = _read(stream, before, most)
        if not chunk:
            return max(before, final or 0)  # there is no more to be had
        after = self._put_short(stream, before, chunk)
        if after is not None and after > before:
            return after
        url = f"{stream.url}?offset={before}"
        after = _told(self._link.ask("PUT", url, chunk, "application/octet-stream"))
        if after == before:
            raise Refused(200, url)  # it kept nothing of it
        return after

    def _put_short(self, stream: Stream, before: int, chunk: bytes) -> int | None:
        """Send a piece of a log the way that costs the server least; None where there is none. What it does not keep is
        to be sent the other way, which tells why."""
        if stream.committed is not None or not self._ranges.are_taken:
            return None
        folder = stream.folder
        sizes = self._ranges.send([Range(folder.run, folder.number, folder.learner, stream.name, before, chunk)])
        return sizes[0] if sizes else None

    def _answer_waiters(self) -> None:
        with self._lock:
            ready = [(run, then) for run, then in self._waiters if self._is_done(run)]
            self._waiters = [waiter for waiter in self._waiters if waiter not in ready]
        for _, then in ready:
            do_safely(then)


def _are_steady(streams: Sequence[Stream]) -> bool:
    """Whether all that was just sent is sent often, and has been for a while."""
    now = time.monotonic()
    for stream in streams:
        stream.steady = stream.steady + 1 if now - stream.sent_at < OFTEN_S else 0
        stream.sent_at = now
    return all(stream.steady >= STEADY_AFTER or stream.committed is not None for stream in streams)


def _small_range(stream: Stream) -> Range | None:
    """All that there is to be sent of a stream, where that is little; None: it is to be sent for itself."""
    before, final = stream.acked, stream.final
    if before is None:
        return None
    stream.dirty = False
    most = SMALL + 1 if final is None else min(SMALL + 1, max(0, final - before))
    try:
        content = _read(stream, before, most)
    except FileNotFoundError:
        content = b""
    if not 0 < len(content) <= SMALL:
        return None
    return Range(stream.folder.run, stream.folder.number, stream.folder.learner, stream.name, before, content)


def _read(stream: Stream, offset: int, most: int) -> bytes:
    if stream.committed is None:
        return read_shippable(stream.folder.log(stream.name), stream.limit, offset, most)
    if offset >= stream.committed:
        return b""
    descriptor = os.open(stream.folder.spool, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(descriptor, min(most, stream.committed - offset), offset)
    finally:
        os.close(descriptor)


def _size(stream: Stream) -> int:
    if stream.committed is not None:
        return stream.committed
    try:
        return shippable(stream.folder.log(stream.name), stream.limit)
    except FileNotFoundError:
        return 0


def _told(answer: bytes) -> int:
    try:
        return msgspec.json.decode(answer, type=_Size).size
    except msgspec.DecodeError:
        raise Unreachable("the server's answer on a log has no size") from None
