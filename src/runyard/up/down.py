"""``runyard down``: a clean stop; programs go on unless they are cancelled first."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from runyard.cli.options import DownOptions
from runyard.client import Client, Run, TimedOut
from runyard.client.address import address_of, local
from runyard.core.errors import RunyardError
from runyard.up import record
from runyard.up.say import say

_STOP_S = 30.0
_STORE_S = 60.0
"""So long canceled runs that store are waited for when none of them comes to its end."""
_LIVE = ("waiting", "starting", "running", "stopping")


def down(options: DownOptions) -> int:
    """Stop the installation. Returns the exit code: 0 when nothing runs any more."""
    home = Path(options.home).expanduser().absolute()
    running = record.read(home)
    if running is None:
        say(f"Runyard does not run in {home}.")
        return 0
    going_on = _prepare(home, running, cancel=options.cancel_runs)
    if not _stop(home, running):
        say(f"Runyard (process {running.pid}) did not stop within {_STOP_S:g} seconds.")
        return 1
    say("Runyard is down.")
    if going_on:
        say(
            f"{going_on} programs go on running: the next `runyard up` finds them. "
            "`runyard down --cancel-runs` would have stopped them."
        )
    return 0


def _stop(home: Path, running: record.Running) -> bool:
    """Ask the supervisor to stop and wait; False when it did not in time."""
    try:
        descriptor = os.pidfd_open(running.pid)
    except ProcessLookupError:
        return True
    try:
        if record.read(home) != running:  # it ended meanwhile, and the number may be somebody else's by now
            return True
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        return bool(select.select([descriptor], [], [], _STOP_S)[0])
    finally:
        os.close(descriptor)


class Waits(Protocol):
    """What is needed of a client here."""

    def wait(self, runs: Sequence[str], timeout: float | None = None) -> list[Run]:
        """Wait until all are final. Raises :class:`TimedOut`."""
        ...

    def run(self, run: str) -> Run:
        """How a run is now."""
        ...


def wait_for_ends(client: Waits, ids: Sequence[str], patience_s: float) -> int:
    """Wait until runs that were canceled are final. Where all that are left store their results, and none of them ends
    for ``patience_s``, they are left to it. Returns how many those are."""
    left, only_store = list(ids), False
    while left:
        try:
            client.wait(left, patience_s)
            return 0
        except TimedOut:
            found = [client.run(each) for each in left]
            now = [run for run in found if not run.final]
            if only_store and len(now) == len(left):
                return len(now)
            left, only_store = [run.id for run in now], all(run.state == "storing" for run in now)
    return 0


def _prepare(home: Path, running: record.Running, *, cancel: bool) -> int:
    """Cancel all runs when asked to (what has ended goes on storing its results); returns how many programs go on."""
    try:
        here = local({"RUNYARD_HOME": str(home)})
        client = Client(url=running.url) if here is None else Client(address=address_of(here))
        if cancel:
            storing = wait_for_ends(client, client.cancel_many(states=_LIVE).pending, _STORE_S)
            if storing:
                say(f"{storing} canceled runs still store: the next `runyard up` goes on with that.")
            return 0
        counts = client.status().counts
        return sum(counts.get(state, 0) for state in ("starting", "running", "stopping"))
    except (RunyardError, OSError) as error:
        say(f"The server does not answer ({error}); it is stopped all the same.")
        return 0
