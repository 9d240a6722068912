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
from runyard.cli.failures import REFUSED
from runyard.cli.following import follow_one, outcome, outcome_table, wait_for_all
from runyard.cli.progress import Line
from runyard.cli.session import Session, common
from runyard.cli.showing import location_text, resources_text
from runyard.cli.table import pairs, table
from runyard.client.calls import Progress
from runyard.client.data_calls import bucket_name
from runyard.client.decode import child
from runyard.client.errors import Misuse
from runyard.client.packing import Packed, human_size
from runyard.client.records import Checked, Submitted
from runyard.client.run_calls import Overrides
from runyard.client.training import Order, Watching, check, read_manifest, submit
from runyard.client.transfer import push


@click.command()
@click.argument("words", nargs=-1, metavar="MODEL MANIFEST")
@click.option("--set", "sets", multiple=True, metavar="K=V,...", help="Hyper-parameter: v1,v2 or lo..hi:N[:log].")
@click.option("--zip", "zipped", is_flag=True, help="Pair the values of all --set instead of combining them.")
@click.option("--args", "append_args", is_flag=True, help="Append hyper-parameters to the command: --name value.")
@click.option("--env", multiple=True, metavar="K=V", help="An environment variable of the program.")
@click.option("--override", multiple=True, metavar="PATH=VALUE", help="Change a key of the manifest: a.b=value.")
@click.option("--framework", metavar="NAME[:VERSION]", help="Another framework than the manifest's.")
@click.option("--python", metavar="PATH", help="An interpreter or environment that the operator allows.")
@click.option("--gpus", type=click.IntRange(min=0), metavar="N", help="GPUs of each run.")
@click.option("--name", metavar="NAME", help="The name of the runs.")
@click.option("--tag", multiple=True, metavar="T", help="A tag to find the runs by.")
@click.option("--priority", type=click.IntRange(0, 100), metavar="P", help="0 to 100, 50 when nobody says.")
@click.option("--after", multiple=True, metavar="ID", help="Wait for this run to complete.")
@click.option("--max-runtime", metavar="T", help="Stop a run after this time, such as 2h.")
@click.option("--data", multiple=True, metavar="DIR|BUCKET", help="Data instead of the manifest's.")
@click.option("--dry-run", is_flag=True, help="Check everything, submit nothing.")
@click.option("--follow", "-f", is_flag=True, help="Stay: print the log of one run, the progress of several.")
@click.option("--wait", "-w", "stay", is_flag=True, help="Stay until all runs are final.")
@click.option("--idempotency-key", metavar="K", help="Submitting again with the same key makes nothing new.")
@click.option("--force", is_flag=True, help="Submit in spite of a doubt of the service.")
@common
@click.pass_obj
def train(session: Session, words: tuple[str, ...], **options: Any) -> int:
    """Submit training runs: MODEL is a folder or zip, MANIFEST a YAML file (`-`: stdin), in either order.

    With --set, one run for each combination of values. Prints the ids of the runs.
    """
    # A folder may well be called `model`, so only the one noun that makes sense here is dropped.
    model, manifest = _model_and_manifest(words[1:] if len(words) == 3 and words[0] in RUN_NOUNS else words)
    order = Order(
        model=model,
        manifest=sys.stdin.read() if manifest == "-" else read_manifest(Path(manifest)),
        sets=options["sets"],
        zipped=options["zipped"],
        append_args=options["append_args"],
        force=options["force"],
        overrides=_overrides(session, options),
        agent=session.program,
    )
    with Line() as line:
        order = _with_data(session, order, options["data"], line, dry=options["dry_run"])
        watching = _Telling(session, line)
        if options["dry_run"]:
            return _tell_check(session, check(session.client, order, watching=watching))
        submitted = submit(session.client, order, idempotency_key=options["idempotency_key"], watching=watching)
    return _stay(session, submitted, follow=options["follow"], stay=options["stay"])


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


def _overrides(session: Session, options: dict[str, Any]) -> Overrides:
    after = [run for each in options["after"] for run in session.client.resolve(each)]
    return Overrides(
        name=options["name"],
        tags=options["tag"],
        priority=options["priority"],
        max_runtime=options["max_runtime"],
        gpus=options["gpus"],
        framework=options["framework"],
        env=_assignments("--env", options["env"]),
        after=tuple(dict.fromkeys(after)),
        python=options["python"],
        paths=_assignments("--override", options["override"]),
    )


def _assignments(option: str, texts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{text!r} has no `=`: write {option} KEY=VALUE.", param_hint=option)
        found[key] = value
    return found


def _with_data(session: Session, order: Order, words: Sequence[str], line: Line, *, dry: bool) -> Order:
    """With the buckets that ``--data`` names; a folder is first sent to a bucket of its name."""
    buckets: list[str] = []
    for word in words:
        folder = Path(word)
        if not folder.is_dir():
            buckets.append(word)
            continue
        bucket = bucket_name(folder.resolve().name)
        buckets.append(bucket)
        if not dry:
            sent = push(session.client, folder, bucket, progress=line.bytes_moved("sending data:"))
            line.clear()
            kept = f", {sent.unchanged} are there unchanged" if sent.unchanged else ""
            session.say(f"Sent {len(sent.sent)} files of {folder} to the bucket {bucket}{kept}.")
    return replace(order, overrides=replace(order.overrides, data=tuple(buckets)))


class _Telling(Watching):
    def __init__(self, session: Session, line: Line) -> None:
        self._session = session
        self._line = line

    def packed(self, packed: Packed) -> None:
        for notice in packed.notices:
            self._session.say(f"note: {notice}")
        count = len(packed.names)
        self._session.say(f"Model definition: {count} file{'s' * (count != 1)}, {human_size(packed.size)} as a zip.")

    def progress(self) -> Progress | None:
        return self._line.bytes_moved("sending:")


def _tell_check(session: Session, checked: Checked) -> int:
    bad = any(each.verdict != "ok" for each in checked.checks)
    if session.json:
        session.emit(checked.raw)
        return REFUSED if bad else 0
    facts = [
        ("name", checked.name),
        ("command", checked.command),
        ("runs", str(checked.runs)),
        ("each with", resources_text(checked.resources)),
        ("results", location_text(child(checked.raw, "results"))),
        ("notes", "\n".join(checked.notes)),
    ]
    session.out(pairs(facts))
    if checked.checks:
        rows = [(each.what, each.verdict, each.message) for each in checked.checks]
        session.out("\n" + table(("CHECK", "VERDICT", ""), rows, flexible=2))
    session.say("Nothing was submitted." if not bad else "Nothing was submitted, and this would be refused.")
    return REFUSED if bad else 0


def _stay(session: Session, submitted: Submitted, *, follow: bool, stay: bool) -> int:
    ids = submitted.ids
    for note in submitted.notes:
        session.say(f"note: {note}")
    if submitted.replayed:
        session.say("note: this key was used before; these are the runs that it made then")
    if not session.json:
        for run_id in ids:
            session.run_id(run_id)
        sys.stdout.flush()
    if follow and len(ids) == 1:
        code = follow_one(session, ids[0])
        if session.json:
            session.emit({"ids": list(ids)})
        return code
    if follow or stay:
        return _wait(session, ids)
    if session.json:
        session.emit({"ids": list(ids)})
    else:
        named, do = (ids[0], f"logs --follow {ids[0]}") if len(ids) == 1 else (f"{len(ids)} runs", "list")
        session.say(f"Submitted {named}. Next: {session.program} {do}")
    return 0


def _wait(session: Session, ids: Sequence[str]) -> int:
    ended = wait_for_all(session, ids)
    if isinstance(ended, int):
        return ended
    runs, code = ended
    if session.json:
        session.emit({"ids": list(ids), "runs": [outcome(run) for run in runs]})
    else:
        session.say(outcome_table(session, runs))
    return code
