"""``frameworks``: what manifests may name, and environments of one's own."""

from __future__ import annotations

import os

import click

from runyard.cli.session import Session, common
from runyard.cli.table import table
from runyard.client.errors import Misuse
from runyard.client.framework_records import Frameworks, RegisteredFramework

_SHOWN = 12
"""Versions on the page of one framework; ``--json`` has them all."""


@click.group()
def frameworks() -> None:
    """See which frameworks manifests may name, and give names to environments of your own: list, add, rm."""


@frameworks.command("list")
@click.argument("name", required=False)
@common
@click.pass_obj
def list_frameworks(session: Session, name: str | None) -> None:
    """List the frameworks. With a NAME, the versions of it that can be had."""
    if name is not None:
        _list_versions(session, name)
        return
    found = session.client.frameworks()
    if session.json:
        session.emit(found.raw)
        return
    session.out(_table(found))
    session.say(f"Versions that can be had of one: {session.program} frameworks list NAME")


def _table(found: Frameworks) -> str:
    rows = [
        (
            each.name,
            ", ".join(each.installed),
            "the machines' interpreter" if not each.distribution else f"{each.distribution} of the package index",
        )
        for each in found.known
    ]
    rows += [(_words(each), "", _means(each)) for each in found.registered]
    return table(("FRAMEWORK", "AT HAND", "IS"), rows, flexible=2)


def _words(each: RegisteredFramework) -> str:
    return f"{each.name}:{each.version}" if each.version else each.name


def _means(each: RegisteredFramework) -> str:
    return f"{each.instead} instead" if each.instead else each.python or ""


def _list_versions(session: Session, name: str) -> None:
    versions = session.client.framework_versions(name)
    if session.json:
        session.emit({"name": name, "versions": None if versions is None else list(versions)})
    elif versions is None:
        session.say("The server cannot ask the package index: see pip's configuration there, and `pip_options`.")
    else:
        session.out("\n".join(versions[:_SHOWN]))
        if len(versions) > _SHOWN:
            session.say(f"{len(versions) - _SHOWN} older ones down to {versions[-1]}: --json has them all.")


def _split(text: str) -> tuple[str, str]:
    name, _, version = text.partition(":")
    if not name:
        raise Misuse(f"{text!r} is no framework: write NAME or NAME:VERSION.")
    return name, version


@frameworks.command()
@click.argument("name", metavar="NAME[:VERSION]")
@click.option("--python", metavar="P", help="An interpreter, or the folder of a virtual or conda environment.")
@click.option("--instead", metavar="NAME:VERSION", help="Another framework to take in its place.")
@common
@click.pass_obj
def add(session: Session, name: str, python: str | None, instead: str | None) -> None:
    """Say what a framework is: an environment that the machines have, or another framework to take instead. Manifests
    then name it as `framework: {name: NAME, version: VERSION}`; without a version here, it stands for all of them."""
    if (python is None) == (instead is None):
        raise Misuse("Say what it is: either --python PATH, or --instead NAME:VERSION.")
    if python is not None and ("/" in python or os.path.isdir(python)):
        python = os.path.abspath(os.path.expanduser(python))
    made = session.client.add_framework(*_split(name), python=python, instead=instead)
    if session.json:
        session.emit(made.raw)
        return
    session.out(_words(made))
    session.say(f"Registered: {_words(made)} is {_means(made)}.")


@frameworks.command()
@click.argument("name", metavar="NAME[:VERSION]")
@common
@click.pass_obj
def rm(session: Session, name: str) -> None:
    """Forget what was registered under a name (and a version). The environment itself stays."""
    session.client.remove_framework(*_split(name))
    if session.json:
        session.emit({"removed": name})
    else:
        session.say(f"Removed {name}.")
