"""Waiting for runs to end: by the account's event stream, never by asking again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Protocol

from runyard.client.errors import NotFound, TimedOut
from runyard.client.records import Event, Run
from runyard.client.streams import Reconnected

MANY = 8
"""From so many runs on, a list of runs is asked for instead of each."""


class Watchable(Protocol):
    """What waiting needs of a client."""

    def run(self, run: str | Run) -> Run:
        """One run."""
        ...

    def runs(self, *, limit: int | None = None) -> Iterator[Run]:
        """Runs, newest first."""
        ...

    def history(self, run: str | Run) -> tuple[Event, ...]:
        """All that happened to a run."""
        ...

    def events(self, after: int | None = None, *, deadline: float | None = None) -> Iterator[Event | Reconnected]:
        """The account's events."""
        ...


def wait_for(
    client: Watchable,
    ids: Sequence[str],
    timeout: float | None = None,
    on_change: Callable[[Run, Event | None], None] | None = None,
) -> list[Run]:
    """Wait until all are final and tell each of them, in the order of ``ids``.

    ``on_change`` hears the run as it is at first (with None) and each of its events. Raises :class:`TimedOut` after
    ``timeout`` seconds and :class:`NotFound` when a run is not there (any more).
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    if not ids:
        return []
    # Read before the states: what happens after this sequence number is in the stream, seen already or not. The last
    # one's, too: behind the first of a large submission there are the events of its acceptance of all the others.
    after = max((event.seq for each in {ids[0], ids[-1]} for event in client.history(each)), default=0)
    known = fetch(client, ids)
    for run in known.values():
        if on_change is not None:
            on_change(run, None)
    pending = {run.id for run in known.values() if not run.final}
    ended = _watch(client, known, pending, after, deadline, on_change) if pending else set[str]()
    known |= fetch(client, sorted(ended))
    return [known[each] for each in ids]


def _watch(
    client: Watchable,
    known: dict[str, Run],
    pending: set[str],
    after: int,
    deadline: float | None,
    on_change: Callable[[Run, Event | None], None] | None,
) -> set[str]:
    ended: set[str] = set()
    try:
        for event in client.events(after, deadline=deadline):
            if isinstance(event, Reconnected):
                # A service that came back from a backup may have forgotten what we wait for.
                gone = {run.id for run in fetch(client, sorted(pending)).values() if run.final}
            else:
                gone = {event.run} & pending if event.kind in ("finished", "deleted") else set[str]()
                if on_change is not None and event.run in known:
                    on_change(known[event.run], event)
            pending -= gone
            ended |= gone
            if not pending:
                break
    except TimedOut:
        raise TimedOut(f"Not final in time: {_some(sorted(pending))}. They go on; wait again with more time.") from None
    return ended


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")


def fetch(client: Watchable, ids: Sequence[str]) -> dict[str, Run]:
    """The runs of these ids. Many are looked for in the list, since those asked for are mostly the newest."""
    found: dict[str, Run] = {}
    wanted = set(ids)
    if len(wanted) >= MANY:
        listed = islice(client.runs(limit=2 * len(wanted)), 2 * len(wanted))
        found = {run.id: run for run in listed if run.id in wanted}
    return {each: found.get(each) or client.run(each) for each in ids}


def verdict(runs: Sequence[Run]) -> int:
    """The exit code that tells of final runs: 0 all completed, 1 one failed, 3 one canceled and none failed."""
    states = {run.state for run in runs}
    return 1 if "failed" in states else 3 if "canceled" in states else 0


__all__ = ["NotFound", "Watchable", "fetch", "verdict", "wait_for"]
