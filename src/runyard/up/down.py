"""``runyard down``: a clean stop; programs go on unless they are cancelled first."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

from runyard.cli.options import DownOptions
from runyard.client import Client
from runyard.client.address import address_of, local
from runyard.core.errors import RunyardError
from runyard.up import record
from runyard.up.say import say

_STOP_S = 30.0
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


def _prepare(home: Path, running: record.Running, *, cancel: bool) -> int:
    """Cancel all runs when asked to (what has ended goes on storing its results); returns how many programs go on."""
    try:
        here = local({"RUNYARD_HOME": str(home)})
        client = Client(url=running.url) if here is None else Client(address=address_of(here))
        if cancel:
            client.wait(client.cancel_many(states=_LIVE).pending)
            return 0
        counts = client.status().counts
        return sum(counts.get(state, 0) for state in ("starting", "running", "stopping"))
    except (RunyardError, OSError) as error:
        say(f"The server does not answer ({error}); it is stopped all the same.")
        return 0
