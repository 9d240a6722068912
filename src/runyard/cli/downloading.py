"""``download``: what runs have stored."""

from __future__ import annotations

from pathlib import Path

import click

from runyard.cli.progress import Line
from runyard.cli.selecting import many, selectors
from runyard.cli.session import Session, common
from runyard.client.sizes import counted, human_size
from runyard.client.transfer import download_results


@click.command()
@selectors()
@click.option("--to", "folder", default=".", metavar="DIR", help="Where to; each run gets a folder of its id there.")
@click.option("--only", default="", metavar="KEY", help="Only what lies below, such as model or learner-1.")
@common
@click.pass_obj
def download(session: Session, words: tuple[str, ...], folder: str, only: str) -> int:
    """Fetch what runs have stored. Prints the paths of the files."""
    found: dict[str, list[str]] = {}
    for run_id in many(session, "download", words):
        with Line() as line:
            paths = download_results(
                session.client, run_id, Path(folder), only=only, progress=line.bytes_moved("fetching:")
            )
        found[run_id] = [str(path) for path in paths]
        size = sum(path.stat().st_size for path in paths)
        if not session.json:
            for path in paths:
                session.out(str(path))
        what = (
            f"{counted(len(paths), 'file')}, {human_size(size)}"
            if paths
            else "nothing stored" + (f" below {only}" if only else "")
        )
        session.say(f"{run_id}: {what}.")
    if session.json:
        session.emit({"files": found})
    return 0
