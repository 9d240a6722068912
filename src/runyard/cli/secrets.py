"""``secrets``: values that programs get by name."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from runyard.cli.session import Session, common
from runyard.cli.table import table
from runyard.cli.times import local
from runyard.client.errors import Misuse


@click.group()
def secrets() -> None:
    """Keep secrets that programs get in their environment, by name (`secrets:` in a manifest): list, add, rm,
    rotate-key."""


@secrets.command("list")
@common
@click.pass_obj
def list_secrets(session: Session) -> None:
    """List the names of the stored secrets. Their values are never shown."""
    found = session.client.secrets()
    if session.json:
        session.emit([each.raw for each in found])
        return
    session.out(table(("NAME", "STORED"), [(each.name, local(each.created_at)) for each in found], flexible=0))


@secrets.command()
@click.argument("name")
@click.option("--from-file", type=click.Path(exists=True, dir_okay=False), metavar="F", help="Take what is in a file.")
@common
@click.pass_obj
def add(session: Session, name: str, from_file: str | None) -> None:
    """Store a secret, or give it another value: from a file, from stdin, or asked for on a terminal. One newline at the
    end does not count."""
    made = session.client.put_secret(name, _value(name, from_file))
    if session.json:
        session.emit(made.raw)
        return
    session.out(name)
    session.say(f"Stored. A manifest asks for it under `runyard:` with `secrets: [{name}]`.")


def _value(name: str, from_file: str | None) -> str:
    if from_file is not None:
        plain = Path(from_file).read_bytes()
    elif sys.stdin.isatty():
        if not sys.stderr.isatty():
            raise Misuse(f"There is no value for {name}: pipe it in, or name a file with --from-file.")
        return click.prompt(f"Value of {name}", hide_input=True, err=True)
    else:
        plain = sys.stdin.buffer.read()
    try:
        value = plain.decode()
    except UnicodeDecodeError:
        raise Misuse(f"The value of {name} is not UTF-8 text: store it as base64, say.") from None
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise Misuse(f"There is no value for {name}: pipe it in, or name a file with --from-file.")
    return value


@secrets.command()
@click.argument("name")
@common
@click.pass_obj
def rm(session: Session, name: str) -> None:
    """Forget a secret. Runs that name it and have not begun will fail."""
    session.client.remove_secret(name)
    if session.json:
        session.emit({"removed": name})
    else:
        session.say(f"Removed {name}.")


@secrets.command("rotate-key")
@common
@click.pass_obj
def rotate_key(session: Session) -> None:
    """Seal all that the service keeps sealed with a new key (for an admin). Broken off, it goes on where it was."""
    count = session.client.rotate_key()
    if session.json:
        session.emit({"resealed": count})
    else:
        session.say(f"Sealed {count} again with a new key. The old one leaves the key file at the next start.")
