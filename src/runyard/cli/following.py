"""Staying with runs until they are final: one with its log, several with a line for each change."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final, TextIO

from runyard.cli.failures import INTERRUPTED
from runyard.cli.progress import Line
from runyard.cli.session import Session
from runyard.cli.times import duration, money, span
from runyard.client.records import FINAL, Event, LogChunk, Run, StateChange
from runyard.client.waiting import verdict

ORDER: Final = ("waiting", "starting", "running", "stopping", "storing", "completed", "failed", "canceled")


def follow_one(session: Session, run_id: str) -> int:
    """Print a run's log as it grows and then how it ended; the exit code that tells it. Ctrl-C only detaches."""
    page = _Page(session, sys.stderr if session.json else sys.stdout)
    try:
        for item in session.client.follow(run_id):
            if isinstance(item, LogChunk):
                page.write(item.data)
            elif item.state not in FINAL:
                page.say(f"{run_id}: {session.state(item.state)}{_told(item)}")
        run = session.client.wait(run_id)[0]
    except KeyboardInterrupt:
        return detached(session, [run_id], f"logs --follow {run_id}")
    page.end()
    session.say(ending(session, run))
    return verdict([run])


class _Page:
    """A log on ``sink`` with sentences on stderr between its lines. Where both are one file, a sentence that comes in
    the middle of a line waits for the end of that; on a terminal, where a line may be a bar of progress, it begins a
    line of its own."""

    def __init__(self, session: Session, sink: TextIO) -> None:
        self._session = session
        self._sink = sink
        self._is_one = _are_one(sink, sys.stderr)
        self._is_open = False
        """Whether the log's last line has not ended."""
        self._held: list[str] = []

    def write(self, data: bytes) -> None:
        """The next piece of the log."""
        line, newline, rest = data.partition(b"\n") if self._held else (b"", b"", data)
        if newline:
            write_log(line + newline, self._sink)
            self._tell()
            data = rest
        if data:
            write_log(data, self._sink)
            self._is_open = not data.endswith(b"\n")

    def say(self, text: str) -> None:
        """A sentence, as soon as it tears no line."""
        self._held.append(text)
        if self._sink.isatty():
            self.end()
        elif not (self._is_one and self._is_open):
            self._tell()

    def end(self) -> None:
        """No line goes on: what is told next begins one."""
        if self._is_one and self._is_open:
            self._session.say("")
        self._tell()

    def _tell(self) -> None:
        self._is_open = False
        for text in self._held:
            self._session.say(text)
        self._held.clear()


def _are_one(first: TextIO, second: TextIO) -> bool:
    """Whether what is written to two streams lands in one file."""
    try:
        return os.path.sameopenfile(first.fileno(), second.fileno())
    except (OSError, ValueError):
        return False


def _told(change: StateChange) -> str:
    """Why, where that is not plain: a wait needs its reason, what began or ended well does not."""
    if change.state == "waiting":
        return f": {change.sentence}" if change.sentence else ""
    return f" ({change.reason})" if change.reason not in (None, change.state, "finished") else ""


def write_log(data: bytes, sink: TextIO | None = None) -> None:
    """A piece of a log, as it is, to stdout unless told otherwise."""
    buffer = (sink or sys.stdout).buffer
    buffer.write(data)
    buffer.flush()


def ending(session: Session, run: Run) -> str:
    """How a run ended, in one or two sentences, and what to do next."""
    took = f" after {duration(run)}" if run.started_at else ""
    paid = f", cost {money(run.cost)}" if money(run.cost) else ""
    text = f"{run.id}: {session.state(run.state)}{took}{paid}."
    if run.state == "completed":
        return f"{text}\n  fetch: {session.program} download {run.id}"
    return f"{text} {run.sentence}".rstrip() + f"\n  more: {session.program} show {run.id}"


def detached(session: Session, ids: Sequence[str], back: str = "") -> int:
    """Say that the runs go on, how to come back (``back``; by default `wait`) and how to cancel; the exit code of
    Ctrl-C."""
    named = " ".join(ids[:3]) + (" ..." if len(ids) > 3 else "")
    back = back or f"wait {named}"
    it, goes = ("The run", "goes") if len(ids) == 1 else (f"The {len(ids)} runs", "go")
    session.say(f"\nDetached. {it} {goes} on.")
    session.say(f"  come back: {session.program} {back}\n  cancel:    {session.program} cancel {named}")
    return INTERRUPTED


class _Board:
    """What is told while several runs are waited for. ``count``: how many they are."""

    def __init__(self, session: Session, line: Line, count: int) -> None:
        self._session = session
        self._line = line
        self._count = count
        self._states: dict[str, str] = {}
        self._begun = time.monotonic()

    def hear(self, run: Run, event: Event | None) -> None:
        """A run as it is at first, or one of its events."""
        state = run.state if event is None else event.state
        if state is not None and self._states.get(run.id) != state:
            if event is not None:
                self._line.clear()
                self._session.say(f"{run.id}: {self._session.state(state)}{_why(event)}")
            self._states[run.id] = state
        counts = Counter(self._states.values())
        shown = ", ".join(f"{counts[state]} {self._session.state(state)}" for state in ORDER if counts[state])
        is_whole = len(self._states) == self._count
        self._line.show(f"{shown}  ({span(time.monotonic() - self._begun)})", at_once=event is not None or is_whole)


def _why(event: Event) -> str:
    node, reason = event.raw.get("node"), event.raw.get("reason")
    if event.kind == "assigned" and node:
        return f" on {node}"
    return f" ({reason})" if reason and reason not in ("finished", "canceled") else ""


def wait_for_all(session: Session, ids: Sequence[str], timeout: float | None = None) -> tuple[list[Run], int] | int:
    """Wait for runs and tell their changes: the runs and the exit code, or the code of Ctrl-C alone."""
    try:
        with Line() as line:
            runs = session.client.wait(list(ids), timeout, on_change=_Board(session, line, len(set(ids))).hear)
    except KeyboardInterrupt:
        return detached(session, ids)
    return runs, verdict(runs)
