"""``accounts``: who pays."""

from __future__ import annotations

import click

from runyard.cli.session import Session, common, later
from runyard.cli.table import table


@click.group()
def accounts() -> None:
    """List accounts."""


@accounts.command("list")
@common
@click.pass_obj
def list_accounts(session: Session) -> None:
    """List the accounts that this token may see."""
    found = session.client.accounts()
    if session.json:
        session.emit([each.raw for each in found])
        return
    rows = [
        (each.id, each.name, "no limit" if each.quota_gpus is None else str(each.quota_gpus), "held" * each.paused)
        for each in found
    ]
    session.out(table(("ID", "NAME", "GPUS", "QUEUE"), rows, flexible=1))


accounts.add_command(later("accounts add"))
accounts.add_command(later("accounts rm"))
