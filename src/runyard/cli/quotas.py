"""``quota``: how many GPUs an account may hold at once."""

from __future__ import annotations

import click

from runyard.cli.session import Session, common
from runyard.cli.table import pairs
from runyard.client.account_records import Quota


@click.group()
def quota() -> None:
    """Show or set how many GPUs an account may hold at once; the rest waits."""


@quota.command()
@click.argument("account", required=False)
@common
@click.pass_obj
def show(session: Session, account: str | None) -> None:
    """Show the quota of an account (one's own, unless named)."""
    _tell(session, session.client.quota(account))


@quota.command("set")
@click.argument("account")
@click.option("--gpus", required=True, metavar="N|none", help="GPUs at once; none: as many as there are.")
@common
@click.pass_obj
def set_quota(session: Session, account: str, gpus: str) -> None:
    """Set the quota of an account (for an admin)."""
    if gpus != "none" and not gpus.isdigit():
        raise click.BadParameter(f"{gpus!r} is neither a number nor none.", param_hint="--gpus")
    _tell(session, session.client.set_quota(account, None if gpus == "none" else int(gpus)))


def _tell(session: Session, found: Quota) -> None:
    if session.json:
        session.emit(found.raw)
        return
    limit = "as many as there are" if found.gpus is None else f"{found.gpus} at once"
    facts = [
        ("account", found.account),
        ("GPUs", limit),
        ("in use", str(found.used_gpus)),
        ("slots", "" if found.slots is None else f"{found.slots} in this service"),
    ]
    session.out(pairs(facts))
