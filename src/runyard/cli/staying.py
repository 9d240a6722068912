"""Staying with what a submission made, or telling how to come back to it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from runyard.cli.following import follow_one, wait_for_all
from runyard.cli.outcomes import fetching, outcome, outcome_table
from runyard.cli.session import Session
from runyard.client.records import Submitted


def stay(session: Session, submitted: Submitted, *, follow: bool, wait: bool) -> int:
    """Tell the ids and, where asked, stay until the runs are final; the exit code."""
    ids = submitted.ids
    for note in submitted.notes:
        session.say(f"note: {note}")
    if submitted.replayed:
        session.say("note: this key was used before; these are the runs that it made then")
    if not session.json:
        for run_id in ids:
            session.run_id(run_id)
        sys.stdout.flush()
    if follow and len(ids) == 1:
        code = follow_one(session, ids[0])
        if session.json:
            session.emit({"ids": list(ids)})
        return code
    if follow or wait:
        return _wait(session, ids)
    if session.json:
        session.emit({"ids": list(ids)})
    else:
        named, do = (ids[0], f"logs --follow {ids[0]}") if len(ids) == 1 else (f"{len(ids)} runs", "list")
        session.say(f"Submitted {named}. Next: {session.program} {do}")
    return 0


def _wait(session: Session, ids: Sequence[str]) -> int:
    ended = wait_for_all(session, ids)
    if isinstance(ended, int):
        return ended
    runs, code = ended
    if session.json:
        session.emit({"ids": list(ids), "runs": [outcome(run) for run in runs]})
    else:
        session.say("\n".join(filter(None, [outcome_table(session, runs), fetching(session, runs)])))
    return code
