"""``audit``: who did what."""

from __future__ import annotations

import click

from runyard.cli.session import Session, common
from runyard.cli.table import table
from runyard.cli.times import local


@click.command()
@click.option("--account", metavar="ACCOUNT", help="Only of this account.")
@click.option("--since", metavar="TIME", help="From an ISO 8601 time on.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1), metavar="N", help="The newest N.")
@common
@click.pass_obj
def audit(session: Session, account: str | None, since: str | None, limit: int) -> None:
    """Show who did what, the newest first (for managers; an admin sees all accounts)."""
    found = list(session.client.audit(account=account, since=since, limit=limit))
    if session.json:
        session.emit([each.raw for each in found])
        return
    rows = [(local(e.at), e.account, e.member, e.token, e.address, e.action, e.object, e.outcome) for e in found]
    session.out(table(("TIME", "ACCOUNT", "MEMBER", "TOKEN", "FROM", "DID", "TO", "OUTCOME"), rows, flexible=6))
