"""``wait``: until runs are final."""

from __future__ import annotations

import click

from runyard.cli.following import wait_for_all
from runyard.cli.outcomes import outcome
from runyard.cli.selecting import many, selectors
from runyard.cli.session import Session, common


@click.command()
@selectors()
@click.option("--timeout", type=click.FloatRange(min=0), metavar="S", help="Give up after S seconds (exit code 124).")
@common
@click.pass_obj
def wait(session: Session, words: tuple[str, ...], timeout: float | None) -> int:
    """Wait until runs are final. Prints each id and its state; the exit code tells how they ended.

    0: all completed, 1: one failed, 3: one was canceled and none failed, 124: not in time.
    """
    ids = many(session, "wait", words)
    ended = wait_for_all(session, ids, timeout)
    if isinstance(ended, int):
        return ended
    runs, code = ended
    if session.json:
        session.emit([outcome(run) for run in runs])
        return code
    for run in runs:
        session.out(f"{run.id} {session.state(run.state)}")
        if run.state != "completed" and run.sentence:
            session.say(f"{run.id}: {run.sentence}")
    return code
