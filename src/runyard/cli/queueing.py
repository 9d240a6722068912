"""``queue``: who waits, and holding, letting go and reordering."""

from __future__ import annotations

import click

from runyard.cli.selecting import complete_runs, one
from runyard.cli.session import Session, common, session_of
from runyard.cli.table import table

EVERYBODY = click.option("--all", "everybody", is_flag=True, help="The queue of all accounts (for an admin).")


@click.group(invoke_without_command=True)
@common
@click.pass_context
def queue(context: click.Context) -> None:
    """Show the queue, or: pause, resume, move ID POSITION, priority ID P."""
    if context.invoked_subcommand is not None:
        return
    session = session_of(context)
    found = session.client.queue()
    if session.json:
        session.emit(found.raw)
        return
    if found.paused or found.account_paused:
        session.say("The queue is held: nothing new starts until `queue resume`.")
    if not found.items:
        session.say("Nothing waits.")
        return
    rows = [(str(each.position or ""), each.id, each.name, str(each.priority), each.sentence) for each in found.items]
    session.out(table(("PLACE", "ID", "NAME", "PRIORITY", "WHY"), rows, flexible=4))
    if found.waiting > len(found.items):
        session.say(f"(the first {len(found.items)} of {found.waiting})")


@queue.command()
@EVERYBODY
@common
@click.pass_obj
def pause(session: Session, everybody: bool) -> None:
    """Start nothing new; what runs goes on."""
    _tell(session, session.client.pause_queue(everybody=everybody))


@queue.command()
@EVERYBODY
@common
@click.pass_obj
def resume(session: Session, everybody: bool) -> None:
    """Let the queue go on."""
    _tell(session, session.client.resume_queue(everybody=everybody))


def _tell(session: Session, paused: bool) -> None:
    if session.json:
        session.emit({"paused": paused})
    else:
        session.say("The queue is held: what runs goes on, nothing new starts." if paused else "The queue goes on.")


@queue.command()
@click.argument("run", metavar="ID", shell_complete=complete_runs)
@click.argument("position", type=click.IntRange(min=1))
@common
@click.pass_obj
def move(session: Session, run: str, position: int) -> None:
    """Put a waiting run at a place in the queue, from 1."""
    run_id = one(session, "queue move", [run])
    session.client.move(run_id, position)
    if session.json:
        session.emit({"id": run_id, "position": position})
    else:
        session.out(run_id)
        session.say(f"{run_id}: moved to place {position}.")


@queue.command()
@click.argument("run", metavar="ID", shell_complete=complete_runs)
@click.argument("value", type=click.IntRange(0, 100), metavar="P")
@common
@click.pass_obj
def priority(session: Session, run: str, value: int) -> None:
    """Give a waiting run another priority, 0 to 100."""
    changed = session.client.set_priority(one(session, "queue priority", [run]), value)
    if session.json:
        session.emit(changed.raw)
    else:
        session.out(changed.id)
        place = f", at place {changed.position}" if changed.position else ""
        session.say(f"{changed.id}: has priority {changed.priority} now{place}.")
