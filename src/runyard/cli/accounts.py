"""``accounts``: who pays."""

from __future__ import annotations

import click

from runyard.cli.amounts import limits
from runyard.cli.session import Session, common
from runyard.cli.table import pairs, table
from runyard.client.access_records import Account
from runyard.client.errors import Misuse


@click.group()
def accounts() -> None:
    """Keep accounts: list, show, add, set, rm."""


@accounts.command("list")
@common
@click.pass_obj
def list_accounts(session: Session) -> None:
    """List the accounts that this token may see."""
    found = session.client.accounts()
    if session.json:
        session.emit([each.raw for each in found])
        return
    rows = [(each.id, each.name, each.plan, limits(each.limits), "held" * each.paused) for each in found]
    session.out(table(("ID", "NAME", "PLAN", "AT ONCE", "QUEUE"), rows, flexible=1))


@accounts.command()
@click.argument("account", required=False)
@common
@click.pass_obj
def show(session: Session, account: str | None) -> None:
    """Show an account (one's own, unless named)."""
    _tell(session, session.client.account(account or session.client.status().account))


@accounts.command()
@click.argument("account")
@click.option("--name", metavar="TEXT", help="What people call it [default: the same].")
@click.option("--plan", metavar="PLAN", help="What it may have [default: free].")
@common
@click.pass_obj
def add(session: Session, account: str, name: str | None, plan: str | None) -> None:
    """Make an account (for an admin)."""
    made = session.client.add_account(account, name=name, plan=plan)
    if session.json:
        session.emit(made.raw)
        return
    session.out(made.id)
    session.say(f"Next: `{session.program} members add NAME --account {made.id} --role manager`.")


@accounts.command("set")
@click.argument("account")
@click.option("--name", metavar="TEXT", help="What people call it.")
@click.option("--plan", metavar="PLAN", help="What it may have.")
@common
@click.pass_obj
def set_account(session: Session, account: str, name: str | None, plan: str | None) -> None:
    """Give an account another name or plan (for an admin); `quota set` gives it limits of its own."""
    if name is None and plan is None:
        raise Misuse("Say what to set: --name or --plan.")
    _tell(session, session.client.set_account(account, name=name, plan=plan))


@accounts.command()
@click.argument("account")
@common
@click.pass_obj
def rm(session: Session, account: str) -> None:
    """Close an account (for an admin): nobody of it gets in any more; runs and bills stay."""
    session.client.remove_account(account)
    if session.json:
        session.emit({"removed": account})
    else:
        session.say(f"Closed {account}.")


def _tell(session: Session, found: Account) -> None:
    if session.json:
        session.emit(found.raw)
        return
    queue = "held" if found.paused else "open"
    facts = [("id", found.id), ("name", found.name), ("plan", found.plan), ("at once", limits(found.limits))]
    session.out(pairs([*facts, ("queue", queue)]))
