"""``connections``: object stores that manifests can name."""

from __future__ import annotations

import os
import sys

import click

from runyard.cli.session import Session, common
from runyard.cli.table import table
from runyard.client.errors import Misuse


@click.group()
def connections() -> None:
    """Keep connections to object stores, so that manifests need no keys: list, add, rm."""


@connections.command("list")
@common
@click.pass_obj
def list_connections(session: Session) -> None:
    """List the stored connections; their secrets are never shown."""
    found = session.client.connections()
    if session.json:
        session.emit([each.raw for each in found])
        return
    rows = [
        (each.name, each.type, each.endpoint_url or each.path or "", each.region or "", each.access_key_id or "")
        for each in found
    ]
    session.out(table(("NAME", "TYPE", "ADDRESS", "REGION", "KEY ID"), rows, flexible=2))


@connections.command()
@click.argument("name")
@click.option("--type", "kind", default="s3", show_default=True, metavar="TYPE", help="s3, local or volume.")
@click.option("--endpoint-url", metavar="URL", help="Where the store answers; without it, AWS.")
@click.option("--region", metavar="R")
@click.option("--path", metavar="DIR", help="The folder of a volume.")
@click.option("--access-key-id", envvar="AWS_ACCESS_KEY_ID", metavar="ID", help="[env: AWS_ACCESS_KEY_ID]")
@click.option("--secret-stdin", is_flag=True, help="Read the secret key from stdin, not from AWS_SECRET_ACCESS_KEY.")
@common
@click.pass_obj
def add(
    session: Session,
    name: str,
    kind: str,
    endpoint_url: str | None,
    region: str | None,
    path: str | None,
    access_key_id: str | None,
    secret_stdin: bool,
) -> None:
    """Store a connection. The secret key is read from the environment, from stdin, or asked for on a terminal."""
    secret = _secret(secret_stdin) if kind == "s3" and access_key_id else None
    made = session.client.add_connection(
        name,
        type=kind,
        endpoint_url=endpoint_url,
        region=region,
        path=path,
        access_key_id=access_key_id if kind == "s3" else None,
        secret_access_key=secret,
    )
    if session.json:
        session.emit(made.raw)
    else:
        session.out(name)
        session.say(f"Stored. A manifest names it: `connection: {name}`.")


def _secret(from_stdin: bool) -> str:
    if from_stdin:
        secret = sys.stdin.readline().rstrip("\r\n")
    elif "AWS_SECRET_ACCESS_KEY" in os.environ:
        secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    elif sys.stdin.isatty() and sys.stderr.isatty():
        secret = click.prompt("Secret access key", hide_input=True, err=True)
    else:
        secret = ""
    if not secret:
        raise Misuse("There is no secret key: set AWS_SECRET_ACCESS_KEY, or pipe it in with --secret-stdin.")
    return secret


@connections.command()
@click.argument("name")
@common
@click.pass_obj
def rm(session: Session, name: str) -> None:
    """Forget a stored connection."""
    session.client.remove_connection(name)
    if session.json:
        session.emit({"removed": name})
    else:
        session.say(f"Removed {name}.")
