"""``generate-manifest``: a manifest to start from."""

from __future__ import annotations

import click

from runyard.cli.session import NotYet, Session, common

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
@click.option("--from", "old", metavar="FILE", help="Translate an older manifest.")
@common
@click.pass_obj
def generate_manifest(session: Session, kind: str, old: str | None) -> None:
    """Print a manifest to start from. KIND is training-runs unless given."""
    if old is not None:
        raise NotYet("generate-manifest --from")
    found = session.client.manifest_template(KINDS[kind])
    if session.json:
        session.emit({"kind": KINDS[kind], "manifest": found})
    else:
        click.echo(found, nl=not found.endswith("\n"))
