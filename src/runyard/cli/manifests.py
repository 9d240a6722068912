"""``generate-manifest``: a manifest to start from, an older one brought over, and the schema of all."""

from __future__ import annotations

import sys

import click

from runyard.cli.session import NotYet, Session, common
from runyard.client.errors import Misuse
from runyard.client.training import read_manifest

KINDS = {
    "training-run": "training-runs",
    "training-runs": "training-runs",
    "training-definition": "training-definitions",
    "training-definitions": "training-definitions",
    "experiment": "experiments",
    "experiments": "experiments",
}


@click.command("generate-manifest")
@click.argument("kind", default="training-runs", type=click.Choice(list(KINDS)), metavar="[KIND]")
@click.option("--from", "old", metavar="OLD.yml", help="Bring an older manifest over (`-`: stdin).")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of manifests, for editors.")
@common
@click.pass_obj
def generate_manifest(session: Session, kind: str, old: str | None, schema: bool) -> None:
    """Print a manifest to start from. KIND is training-runs unless given; there are training-definitions and
    experiments, too."""
    if (old is not None or schema) and KINDS[kind] != "training-runs":
        raise NotYet(f"generate-manifest {kind} {'--schema' if schema else '--from'}")
    if schema and old is not None:
        raise Misuse("--schema and --from are two things: ask for one of them.")
    if schema:
        session.emit(session.client.manifest_schema())
    elif old is not None:
        _bring_over(session, old)
    else:
        found = session.client.manifest_template(KINDS[kind])
        if session.json:
            session.emit({"kind": KINDS[kind], "manifest": found})
        else:
            click.echo(found, nl=not found.endswith("\n"))


def _bring_over(session: Session, old: str) -> None:
    """The manifest goes to stdout as it is, its secrets with it: it is the user's own file."""
    found = session.client.convert_manifest(sys.stdin.read() if old == "-" else read_manifest(old))
    if session.json:
        session.emit(found.raw)
        return
    click.echo(found.manifest, nl=False)
    for note in found.notes:
        session.say(f"note: {note}")
    for each in found.left:
        session.say(f"to do: {each}")
    if not found.left:
        session.say(f"Write it to a file, then: {session.program} train MODEL FILE")
