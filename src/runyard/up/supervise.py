"""The supervisor: server and node as its children, started again when they die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from select import select
from types import FrameType
from typing import IO

from runyard.shim.lean import PR_SET_PDEATHSIG, prctl
from runyard.up.forking import Image, Process, fork
from runyard.up.say import say

_QUICK_S = 10.0
_LONGEST_S = 5.0
_STOP_S = 10.0
GAVE_WAY = 75
"""The status of a server that has lost its lease (``runyard.standby.LOST``): it is to stand by at once."""
_SETTLED_S = 1.0
"""Who lives for so long before it gives way does so for a reason, and not as soon as it begins."""


def backoff_s(deaths: int) -> float:
    """Seconds to wait before a child is started again after so many quick deaths in a row."""
    return 0.0 if deaths <= 1 else min(_LONGEST_S, 0.1 * 2 ** min(deaths - 2, 30))


def _end_with_parent() -> None:
    """A server that outlived its supervisor would share the database with the next one."""
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass(slots=True)
class Child:
    """One process that is kept running: a fork of this process where ``image`` can be had in it, else
    ``python() -m module words``. ``fds`` are handed down to it."""

    name: str
    module: str
    words: list[str]
    log: Path
    fds: tuple[int, ...] = ()
    image: Image | None = None
    process: Process | None = None
    began: float = 0.0
    deaths: int = 0
    due: float = 0.0

    def start(self) -> None:
        """Start it, its output going to the end of its log."""
        main = None if self.image is None else self.image.load()
        self.began = time.monotonic()
        try:
            with self.log.open("ab") as log:
                if main is None:
                    self.process = self._executed(log)
                else:
                    self.process = fork(self.module, main, self.words, log.fileno(), self.fds)
        except OSError as error:
            self._again(f"could not be started ({error})")

    def _executed(self, log: IO[bytes]) -> Process:
        return subprocess.Popen(
            [*python(), "-m", self.module, *self.words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=self.fds,
            preexec_fn=_end_with_parent,  # safe: the supervisor has no other thread
        )

    def died(self, status: int) -> None:
        """Note its end and when it is to be started again: at once where it gave way to another server, which says
        nothing of how it will fare."""
        if status == GAVE_WAY and time.monotonic() - self.began >= _SETTLED_S:
            self.process, self.deaths, self.due = None, 0, 0.0
            say(f"{self.name} gave way to another one; it is started again (see {self.log})")
            return
        self._again(f"ended with status {status}")

    def _again(self, what: str) -> None:
        now = time.monotonic()
        self.deaths = self.deaths + 1 if now - self.began < _QUICK_S else 1
        self.due = now + backoff_s(self.deaths)
        self.process = None
        say(f"{self.name} {what}; it is started again (see {self.log})")


class Supervisor:
    """Keeps children running until SIGTERM or SIGINT: starts and stops them in the order given."""

    def __init__(self, children: list[Child]) -> None:
        self._children = children
        self._stopping = False

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def run(self) -> None:
        """Keep the children running; returns once they are stopped."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write_end)
        try:
            for child in self._children:
                if not self._stopping:
                    child.start()
            while not self._stopping:
                self._turn(read_end)
        finally:
            self._stop_all()

    def _turn(self, wakeups: int) -> None:
        now = time.monotonic()
        waits = [child.due - now for child in self._children if child.process is None]
        timeout = max(0.0, min(waits)) if waits else None
        if select([wakeups], [], [], timeout)[0]:
            os.read(wakeups, 4096)
        for child in self._children:
            if child.process is None:
                if child.due <= time.monotonic() and not self._stopping:
                    child.start()
            elif (status := child.process.poll()) is not None:
                child.died(status)

    def _stop_all(self) -> None:
        for child in self._children:
            process = child.process
            if process is None:
                continue
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                say(f"{child.name} did not stop within {_STOP_S:g} seconds and is killed")
                process.kill()
                process.wait()


def python() -> list[str]:
    """The interpreter that server and node run under: this one, with its own packages only."""
    return [sys.executable, "-P"]
