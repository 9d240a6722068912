"""``train``: a folder and a manifest become training runs."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from runyard.cli.catalog import RUN_NOUNS
from runyard.cli.progress import Line
from runyard.cli.session import Session, common
from runyard.cli.staying import stay
from runyard.cli.submitting import assignments, earlier, order_of, send, send_data, submission_options
from runyard.client.errors import Misuse
from runyard.client.run_calls import Overrides
from runyard.client.training import read_manifest


@click.command()
@click.argument("words", nargs=-1, metavar="MODEL MANIFEST")
@submission_options
@common
@click.pass_obj
def train(session: Session, words: tuple[str, ...], **options: Any) -> int:
    """Submit training runs: MODEL is a folder or zip, MANIFEST a YAML file (`-`: stdin), in either order.

    With --set, one run for each combination of values. Prints the ids of the runs.
    """
    # A folder may well be called `model`, so only the one noun that makes sense here is dropped.
    model, manifest = _model_and_manifest(words[1:] if len(words) == 3 and words[0] in RUN_NOUNS else words)
    text = sys.stdin.read() if manifest == "-" else read_manifest(Path(manifest))
    overrides = _overrides(session, options)
    with Line() as line:
        data = send_data(session, options["data"], line, dry=options["dry_run"])
        order = order_of(session, model, text, options, replace(overrides, data=data))
        done = send(session, order, options, line)
    return done if isinstance(done, int) else stay(session, done, follow=options["follow"], wait=options["stay"])


def _overrides(session: Session, options: dict[str, Any]) -> Overrides:
    return Overrides(
        name=options["name"],
        tags=options["tag"],
        priority=options["priority"],
        max_runtime=options["max_runtime"],
        gpus=options["gpus"],
        framework=options["framework"],
        env=assignments("--env", options["env"]),
        after=earlier(session, options),
        python=options["python"],
        paths=assignments("--override", options["override"]),
    )


def _model_and_manifest(words: Sequence[str]) -> tuple[Path, str]:
    if len(words) != 2:
        raise click.UsageError("`train` needs a model definition (folder or zip) and a manifest (YAML file).")
    one, other = words
    for each in words:
        if each != "-" and not Path(each).exists():
            raise Misuse(f"There is no file or folder {each}: check the path.")
    if _is_model(one) == _is_model(other):
        raise Misuse(
            f"{one} and {other} are both {'model definitions' if _is_model(one) else 'no folder or zip'}: "
            "give a folder or zip and a manifest."
        )
    return (Path(one), other) if _is_model(one) else (Path(other), one)


def _is_model(word: str) -> bool:
    path = Path(word)
    return word != "-" and (path.is_dir() or path.suffix.lower() == ".zip" or zipfile.is_zipfile(path))
