"""``tokens``: who may come in."""

from __future__ import annotations

import click

from runyard.cli.session import Session, common
from runyard.cli.table import table
from runyard.cli.times import local
from runyard.client.access_records import Token

_SCOPES = click.Choice(["read", "submit", "member", "admin"])


@click.group()
def tokens() -> None:
    """Make, list and revoke tokens: list, add, rm."""


@tokens.command("list")
@common
@click.pass_obj
def list_tokens(session: Session) -> None:
    """List the account's tokens; their texts are never shown again."""
    found = session.client.tokens()
    if session.json:
        session.emit([each.raw for each in found])
        return
    rows = [
        (each.id, each.name, each.member, each.scope, local(each.created_at), local(each.used_at), _end(each))
        for each in found
    ]
    session.out(table(("ID", "NAME", "MEMBER", "SCOPE", "MADE", "USED", "ENDS"), rows, flexible=1))


def _end(token: Token) -> str:
    return "revoked" if token.revoked_at is not None else local(token.expires_at)


@tokens.command()
@click.argument("name")
@click.option(
    "--scope", type=click.Choice(["read", "submit", "member", "admin"]), help="What it may do [default: member]."
)
@click.option("--expires-in-days", type=click.IntRange(min=1), metavar="N")
@common
@click.pass_obj
def add(session: Session, name: str, scope: str | None, expires_in_days: int | None) -> None:
    """Make a token and print it: the only time that it is shown."""
    made = session.client.add_token(name, scope=scope, expires_in_days=expires_in_days)
    if session.json:
        session.emit({"id": made.id, "token": made.token})
        return
    session.out(made.token)
    session.say(f"This is shown only now. `{session.program} tokens rm {made.id}` revokes it.")


@tokens.command()
@click.argument("token_id", metavar="ID")
@common
@click.pass_obj
def rm(session: Session, token_id: str) -> None:
    """Revoke a token."""
    session.client.remove_token(token_id)
    if session.json:
        session.emit({"removed": token_id})
    else:
        session.say(f"Revoked {token_id}.")
