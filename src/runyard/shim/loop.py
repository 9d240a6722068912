"""One poll over everything that a process which supervises runs waits for: one run of a shim, or many of a warm one."""

import os
import select
import sys

from runyard.shim import lean
from runyard.shim.lean import NANO, boottime_ns, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from resource import struct_rusage
    from typing import Protocol

    class Run(Protocol):
        """What a loop asks of a run."""

        @property
        def done(self) -> bool: ...
        def deadline(self) -> int | None: ...
        def descriptors(self) -> list[int]: ...
        def answer(self, descriptor: int) -> None: ...
        def on_time(self, now: int) -> None: ...
        def owns(self, pid: int) -> bool: ...
        def reaped(self, pid: int, status: int, usage: struct_rusage) -> None: ...
        def childless(self) -> None: ...
        def kill(self) -> None: ...
        def abandon(self) -> None: ...


UNRECORDED_NS = NANO // 10, 5 * NANO
"""Between one try to write an exit record and the next: at first, and at most."""


class Due:
    """The deadlines of a run (:func:`lean.boottime_ns`), None where there is none."""

    __slots__ = ("_pause", "kill_at", "leftovers_at", "limit_at", "record_at")

    def __init__(self) -> None:
        self.limit_at: int | None = None
        """Of the program's time."""
        self.kill_at: int | None = None
        """Of everything that is still there."""
        self.leftovers_at: int | None = None
        """When it is time to ask what the program has left."""
        self.record_at: int | None = None
        """When it is tried again to put the end on the disk."""
        self._pause = UNRECORDED_NS[0]

    def next(self) -> int | None:
        """The first of them."""
        times = (self.limit_at, self.kill_at, self.leftovers_at, self.record_at)
        return min((at for at in times if at is not None), default=None)

    def none_but_record(self) -> None:
        """Nothing is left of the program that could be due."""
        self.limit_at = self.kill_at = self.leftovers_at = None

    def record_again(self, now: int) -> None:
        """The end could not be put on the disk: try again, and later each time."""
        self.record_at = now + self._pause
        self._pause = min(UNRECORDED_NS[1], self._pause * 2)


class Loop:
    """The runs, by their descriptors, deadlines (one alarm for the next) and processes; and other descriptors."""

    __slots__ = ("_poll", "_registered", "alarm", "another_ended", "others", "runs", "wake")

    def __init__(self, wake: int) -> None:
        self.wake = wake
        """Readable when a child ended."""
        self.alarm = lean.Alarm()
        self._poll = select.poll()  # goes by numbers, so one that was closed and given anew is no harm
        self._registered: set[int] = set()
        self.runs: list[Run] = []
        self.others: dict[int, Callable[[], None]] = {}
        """What is to be done when another descriptor becomes readable."""
        self.another_ended: Callable[[int, int, struct_rusage], None] | None = None
        """Told the process id, the wait status and the usage of a child that is no run's."""

    def turn(self) -> None:
        """Wait for something, do what it calls for, and let go of runs that are over and on disk."""
        deadlines = [at for run in self.runs if (at := run.deadline()) is not None]
        self.alarm.set(min(deadlines, default=None))
        whose = {descriptor: run for run in self.runs for descriptor in run.descriptors()}
        self._register({self.wake, self.alarm.fd, *self.others, *whose})
        ready = [descriptor for descriptor, _ in self._poll.poll()]
        if self.alarm.fd in ready:
            self.alarm.clear()
        for descriptor in ready:
            if descriptor in self.others:
                self.others[descriptor]()
        for descriptor in ready:  # what a run's program says of its end comes before its being reaped
            if (run := whose.get(descriptor)) is not None:
                self._safely(run, lambda run=run, descriptor=descriptor: run.answer(descriptor))
        if self.wake in ready:
            os.read(self.wake, 4096)
            self.reap()
        now = boottime_ns()
        for run in list(self.runs):
            self._safely(run, lambda run=run: run.on_time(now))
            if run.done:
                self.runs.remove(run)

    def _register(self, wanted: set[int]) -> None:
        for descriptor in self._registered - wanted:
            self._poll.unregister(descriptor)
        for descriptor in wanted - self._registered:
            self._poll.register(descriptor, select.POLLIN)
        self._registered = wanted

    def is_readable(self, descriptor: int) -> bool:
        """Whether something can be read there now, the end included."""
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def reap(self) -> None:
        """Collect every child that ended, for the run that it is of."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                for run in self.runs:
                    run.childless()
                return
            if pid == 0:
                return
            self._reaped(pid, status, usage)

    def _reaped(self, pid: int, status: int, usage: "struct_rusage") -> None:
        for run in self.runs:
            if run.owns(pid):
                self._safely(run, lambda run=run: run.reaped(pid, status, usage))
                return
        if self.another_ended is not None:
            self.another_ended(pid, status, usage)

    def _safely(self, run: "Run", action: "Callable[[], None]") -> None:
        """A mistake of ours must leave no program that nobody watches, and harm no other run."""
        try:
            action()
        except Exception:
            sys.excepthook(*sys.exc_info())  # pyright: ignore[reportArgumentType] - there is one
            run.abandon()


def _woken(_signal: int, _frame: object) -> None:
    """Nothing: that a signal came is in the wake-up descriptor, which a signal with no handler leaves alone."""


def prepare() -> int:
    """Make the calling process one that supervises: it outlives everyone, inherits orphans, and cannot be traced or
    dumped (its memory holds the orders' secrets). Returns the descriptor that is readable when a child ended."""
    lean.prctl(lean.PR_SET_DUMPABLE, 0)
    lean.prctl(lean.PR_SET_CHILD_SUBREAPER, 1)
    for number in (signals.SIGHUP, signals.SIGINT, signals.SIGQUIT, signals.SIGTERM, signals.SIGUSR1, signals.SIGUSR2):
        signals.signal(number, signals.SIG_IGN)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signals.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signals.signal(signals.SIGCHLD, _woken)
    os.chdir("/")
    os.umask(0o077)
    return wake
