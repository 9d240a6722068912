"""``members``: who is in an account, and what they may do."""

from __future__ import annotations

import sys

import click

from runyard.cli.session import Session, common
from runyard.cli.table import table
from runyard.client.errors import Misuse

_ROLES = click.Choice(["viewer", "user", "manager", "admin"])
_account = click.option("--account", metavar="ACCOUNT", help="Of another account than one's own (for an admin).")


@click.group()
def members() -> None:
    """Keep the members of an account: list, add, role, password, rm."""


def _whose(session: Session, account: str | None) -> str:
    return account or session.client.status().account


@members.command("list")
@_account
@common
@click.pass_obj
def list_members(session: Session, account: str | None = None) -> None:
    """List who is in an account."""
    found = session.client.members(_whose(session, account))
    if session.json:
        session.emit([each.raw for each in found])
    else:
        session.out(table(("NAME", "ROLE"), [(each.name, each.role) for each in found], flexible=0))


@members.command()
@click.argument("member")
@click.option("--role", type=_ROLES, default="user", show_default=True, help="What they may do.")
@_account
@common
@click.pass_obj
def add(session: Session, member: str, role: str, account: str | None) -> None:
    """Take somebody in, and print a token for them: the only time that it is shown."""
    made = session.client.add_member(_whose(session, account), member, role)
    if session.json:
        session.emit({"name": made.name, "role": made.role, "id": made.token_id, "token": made.token})
        return
    session.out(made.token)
    session.say(f"This is the token of {made.name} ({made.role}), shown only now: they set RUNYARD_TOKEN to it.")


@members.command()
@click.argument("member")
@click.argument("role", type=_ROLES)
@_account
@common
@click.pass_obj
def role(session: Session, member: str, role: str, account: str | None) -> None:
    """Give a member another role."""
    changed = session.client.set_role(_whose(session, account), member, role)
    if session.json:
        session.emit(changed.raw)
    else:
        session.say(f"{changed.name} is {changed.role} now.")


@members.command()
@click.argument("member")
@_account
@common
@click.pass_obj
def password(session: Session, member: str, account: str | None) -> None:
    """Set a password (12 characters or more), from stdin or asked for on a terminal; with one's own, the current one
    comes first, on a line of its own."""
    current, new = _passwords()
    session.client.set_password(_whose(session, account), member, new, current)
    if session.json:
        session.emit({"set": member})
    else:
        session.say(f"{member} signs in with it from now on.")


def _passwords() -> tuple[str | None, str]:
    if sys.stdin.isatty() and sys.stderr.isatty():
        ask = "Current password (empty: none)"
        current = click.prompt(ask, hide_input=True, err=True, default="", show_default=False)
        return current or None, click.prompt("New password", hide_input=True, err=True, confirmation_prompt=True)
    lines = sys.stdin.read().splitlines()
    if len(lines) not in (1, 2):
        raise Misuse("Pipe the new password in, on one line; before it, where there is one, the current one.")
    return (lines[0] if len(lines) == 2 else None), lines[-1]


@members.command()
@click.argument("member")
@_account
@common
@click.pass_obj
def rm(session: Session, member: str, account: str | None) -> None:
    """Remove a member: their tokens are refused at once, their runs go on."""
    session.client.remove_member(_whose(session, account), member)
    if session.json:
        session.emit({"removed": member})
    else:
        session.say(f"Removed {member}.")
