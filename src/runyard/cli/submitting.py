"""What `train` and `run` have in common: their options, the data that they send first, checking and submitting."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from runyard.cli.failures import REFUSED
from runyard.cli.flags import of_options
from runyard.cli.progress import Line
from runyard.cli.selecting import complete_runs
from runyard.cli.session import Function, Session
from runyard.cli.showing import location_text, resources_text
from runyard.cli.table import pairs, table
from runyard.cli.times import local, money
from runyard.client.calls import Progress
from runyard.client.data_calls import bucket_name
from runyard.client.decode import Json, child, integer, moment, text, truth
from runyard.client.errors import ManifestRefused
from runyard.client.packing import Packed
from runyard.client.records import Checked, Submitted
from runyard.client.run_calls import Overrides
from runyard.client.sizes import counted, human_size
from runyard.client.training import Order, Watching, check, submit
from runyard.client.transfer import push


def _whole(_context: click.Context, _option: click.Parameter, path: str | None) -> str | None:
    """A path from here as one from the root: programs run elsewhere. A name without a slash stays."""
    return path if path is None or "/" not in path else os.path.abspath(os.path.expanduser(path))


OPTIONS: Final[tuple[Callable[[Any], Any], ...]] = (
    click.option("--set", "sets", multiple=True, metavar="K=V,...", help="Hyper-parameter: v1,v2 or lo..hi:N[:log]."),
    click.option("--zip", "zipped", is_flag=True, help="Pair the values of all --set instead of combining them."),
    click.option("--args", "append_args", is_flag=True, help="Append hyper-parameters to the command: --name value."),
    click.option("--env", multiple=True, metavar="K=V", help="An environment variable of the program."),
    click.option("--override", multiple=True, metavar="PATH=VALUE", help="Change a key of the manifest: a.b=value."),
    click.option("--framework", metavar="NAME[:VERSION]", help="Another framework than the manifest's."),
    click.option(
        "--python", metavar="PATH", callback=_whole, help="An interpreter or environment that the operator allows."
    ),
    click.option("--gpus", type=click.IntRange(min=0), metavar="N", help="GPUs of each run."),
    click.option("--name", metavar="NAME", help="The name of the runs."),
    click.option("--tag", multiple=True, metavar="T", help="A tag to find the runs by."),
    click.option("--priority", type=click.IntRange(0, 100), metavar="P", help="0 to 100, 50 when nobody says."),
    click.option(
        "--after", multiple=True, metavar="ID", shell_complete=complete_runs, help="Wait for this run to complete."
    ),
    click.option("--max-runtime", metavar="T", help="Stop a run after this time, such as 2h."),
    click.option("--data", multiple=True, metavar="DIR|BUCKET", help="Data instead of the manifest's."),
    click.option("--dry-run", is_flag=True, help="Check everything, submit nothing."),
    click.option("--follow", "-f", is_flag=True, help="Stay: print the log of one run, the progress of several."),
    click.option("--wait", "-w", "stay", is_flag=True, help="Stay until all runs are final."),
    click.option("--idempotency-key", metavar="K", help="Submitting again with the same key makes nothing new."),
    click.option("--force", is_flag=True, help="Submit in spite of a doubt of the service."),
)
"""The options that make a submission, in the order of the help."""


def submission_options(function: Function) -> Function:
    """Give a command the options of a submission; they arrive by keyword."""
    for option in reversed(OPTIONS):
        function = option(function)
    return function


def order_of(
    session: Session, model: Path | None, manifest: str, options: dict[str, Any], overrides: Overrides
) -> Order:
    """The order of a call with these options."""
    return Order(
        model=model,
        manifest=manifest,
        sets=options["sets"],
        zipped=options["zipped"],
        append_args=options["append_args"],
        force=options["force"],
        overrides=overrides,
        agent=session.program,
    )


def send(
    session: Session, order: Order, options: dict[str, Any], line: Line, *, written: bool = False
) -> int | Submitted:
    """Check or submit an order, as its options ask: the exit code of a check, or what was submitted. ``written``: its
    manifest says what the options do, and nobody has seen it."""
    watching = _Telling(session, line)
    try:
        if options["dry_run"]:
            return _tell_check(session, check(session.client, order, watching=watching))
        return submit(session.client, order, idempotency_key=options["idempotency_key"], watching=watching)
    except ManifestRefused as error:
        raise of_options(error, options, written=written) from None


def earlier(session: Session, options: dict[str, Any]) -> tuple[str, ...]:
    """The ids that ``--after`` names, each once."""
    return tuple(dict.fromkeys(run for each in options["after"] for run in session.client.resolve(each)))


def assignments(option: str, texts: Sequence[str]) -> dict[str, str]:
    """``KEY=VALUE`` texts of an option as a mapping."""
    found: dict[str, str] = {}
    for each in texts:
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{each!r} has no `=`: write {option} KEY=VALUE.", param_hint=option)
        found[key] = value
    return found


def send_data(session: Session, words: Sequence[str], line: Line, *, dry: bool) -> tuple[str, ...]:
    """The buckets that ``--data`` names; a folder is first sent to a bucket of its name, unless ``dry``."""
    buckets: list[str] = []
    for word in words:
        if not word.strip():
            raise click.BadParameter("it is empty: name a folder or a bucket.", param_hint="--data")
        folder = Path(word)
        if not folder.is_dir():
            buckets.append(word)
            continue
        bucket = bucket_name(folder.resolve().name)
        if dry and bucket not in session.client.buckets():
            session.say(f"The files of {folder} would be sent to a new bucket {bucket}, which is not looked at here.")
            continue
        buckets.append(bucket)
        if not dry:
            sent = push(session.client, folder, bucket, progress=line.bytes_moved("sending data:"))
            line.clear()
            kept = f", {sent.unchanged} are there unchanged" if sent.unchanged else ""
            session.say(f"Sent {counted(len(sent.sent), 'file')} of {folder} to the bucket {bucket}{kept}.")
    return tuple(buckets)


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


def _preview(told: Json) -> list[tuple[str, str]]:
    """When it would start, what it would cost, and what is at hand."""
    ahead = integer(told, "ahead")
    costs = [
        f"about {money(text(told, 'cost_expected')) or '0'}, by what runs of the account take"
        if text(told, "cost_expected")
        else "",
        f"at most {money(text(told, 'cost_most')) or '0'}, by max_runtime" if text(told, "cost_most") else "",
    ]
    times = [
        f"{word} {local(moment(told, key))}"
        for word, key in (("about", "earliest"), ("at the latest", "latest"))
        if moment(told, key) is not None and text(told, "starts") != "now"
    ]
    kept = [name for name in ("code", "data", "environment") if truth(told, f"{name}_at_hand")]
    return [
        ("ahead", f"{ahead} run{'s' * (ahead != 1)} in the queue" if ahead else "nobody waits"),
        ("would start", " ".join([text(told, "sentence"), *([f"({', '.join(times)})"] if times else [])])),
        ("machine", text(told, "machine") or "none is connected that can take it"),
        ("cost", "; ".join(filter(None, costs)) or "not known: set max_runtime, or let a run end first"),
        ("at hand", ", ".join(kept) if kept else "nothing of an earlier submission"),
    ]


def _tell_check(session: Session, checked: Checked) -> int:
    bad = any(each.verdict != "ok" for each in checked.checks)
    if session.json:
        session.emit(checked.raw)
        return REFUSED if bad else 0
    facts = [
        ("name", checked.name),
        ("command", checked.command),
        ("runs", str(checked.runs)),
        ("each with", resources_text(checked.resources, integer(checked.raw, "learners") or 1)),
        ("results", location_text(child(checked.raw, "results"))),
        ("notes", "\n".join(checked.notes)),
    ]
    session.out(pairs([*facts, *_preview(child(checked.raw, "preview"))]))
    if checked.checks:
        rows = [(each.what, each.verdict, each.message) for each in checked.checks]
        session.out("\n" + table(("CHECK", "VERDICT", ""), rows, flexible=2))
    session.say("Nothing was submitted." if not bad else "Nothing was submitted, and this would be refused.")
    return REFUSED if bad else 0
