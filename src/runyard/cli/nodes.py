"""``nodes``: the machines, and draining them."""

from __future__ import annotations

import click

from runyard.cli.session import Session, common
from runyard.cli.table import table
from runyard.cli.times import local
from runyard.client.account_records import Machine


@click.group()
def nodes() -> None:
    """Show the machines; let nothing new start on one."""


@nodes.command("list")
@common
@click.pass_obj
def list_nodes(session: Session) -> None:
    """List the machines."""
    found = session.client.nodes()
    if session.json:
        session.emit([each.raw for each in found])
        return
    rows = [(each.id, each.name, str(each.gpus), str(each.running), _state(each)) for each in found]
    session.out(table(("ID", "NAME", "GPUS", "RUNNING", "STATE"), rows, flexible=4))


def _state(machine: Machine) -> str:
    if not machine.connected:
        return "not connected"
    if machine.draining_since is not None:
        return f"draining since {local(machine.draining_since)}"
    return " ".join([machine.closed or "open", *machine.shut_gpus])


@nodes.command()
@click.argument("node")
@click.option("--preempt", is_flag=True, help="Stop what runs there, too: it waits again with its checkpoint.")
@common
@click.pass_obj
def drain(session: Session, node: str, preempt: bool) -> None:
    """Let nothing new start on a machine; what runs there goes on (for an admin)."""
    found = session.client.drain(node, preempt=preempt)
    left = f"{found.running} run{'s' * (found.running != 1)} on it {'are' if found.running != 1 else 'is'}"
    _tell(session, found, f"nothing new starts on it; {left} {'asked to make room' if preempt else 'left to end'}.")


@nodes.command()
@click.argument("node")
@common
@click.pass_obj
def resume(session: Session, node: str) -> None:
    """Let runs start on a machine again, and on its GPUs that reported errors (for an admin)."""
    _tell(session, session.client.resume_node(node), "runs start on it again.")


def _tell(session: Session, found: Machine, text: str) -> None:
    if session.json:
        session.emit(found.raw)
    else:
        session.out(found.id)
        session.say(f"{found.name}: {text}")
