"""``retention``, ``gc`` and ``usage --disk``: what is kept, for how long, and what it takes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from runyard.cli.amounts import number_or
from runyard.cli.session import Session, common
from runyard.cli.table import pairs, table
from runyard.client.decode import Json, child, children, integer, number, text, texts, truth
from runyard.client.sizes import human_size

_PARTS = ("results", "logs", "metrics", "records")
_MEANINGS = {
    "results": "of the embedded store; other buckets are never touched",
    "logs": "as far as the service shows them",
    "metrics": "and their charts",
    "records": "of the runs, with their logs and metrics; the bill and the events stay",
}


@click.group()
def retention() -> None:
    """Show or set how long what runs leave behind is kept after their end. Runs with the tag `keep` keep all."""


@retention.command()
@click.argument("account", required=False)
@common
@click.pass_obj
def show(session: Session, account: str | None) -> None:
    """Show how long an account (one's own, unless named) keeps what its runs leave behind."""
    _tell(session, session.client.retention(account))


@retention.command("set")
@click.argument("account")
@click.option("--results", metavar="DAYS|forever|default", help="Results in the embedded store.")
@click.option("--logs", metavar="DAYS|forever|default", help="Logs.")
@click.option("--metrics", metavar="DAYS|forever|default", help="Metrics.")
@click.option("--records", metavar="DAYS|forever|default", help="Records of runs, with their logs and metrics.")
@common
@click.pass_obj
def set_retention(session: Session, account: str, **options: Any) -> None:
    """Set how long an account keeps what its runs leave behind, in days (for an admin)."""
    days = {name: _days(f"--{name}", value) for name, value in options.items() if value is not None}
    if not days:
        raise click.UsageError("Say what to set: --results, --logs, --metrics or --records.")
    _tell(session, session.client.set_retention(account, **days))


def _days(option: str, said: str) -> float | None:
    return number_or(option, said, {"forever": 0.0, "default": None}, "a number of days", "d")


def _tell(session: Session, found: Json) -> None:
    if session.json:
        session.emit(found)
        return
    days, own = child(found, "days"), texts(found, "own")
    facts = [("account", text(found, "account"))]
    for part in _PARTS:
        age = "for ever" if days.get(part) is None else f"{number(days, part):g} days"
        whose = "its own" if part in own else "the installation's"
        facts.append((part, f"{age} ({whose}); {_MEANINGS[part]}"))
    session.out(pairs(facts))


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@common
@click.pass_obj
def gc(session: Session, dry_run: bool) -> None:
    """Let go what is kept no longer, and say what it was (for an admin)."""
    found = session.client.gc(dry_run=dry_run)
    if session.json:
        session.emit(found)
        return
    counts: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    for each in children(found, "items"):
        key = text(each, "account"), text(each, "what")
        counts[key] += integer(each, "count")
        sizes[key] += integer(each, "bytes")
    if not counts:
        session.say("Nothing is due: all that is there is to be kept.")
        return
    ordered = sorted(counts, key=lambda key: -sizes[key])
    rows = [(key[0] or "-", key[1], str(counts[key]), human_size(sizes[key])) for key in ordered]
    session.out(table(("ACCOUNT", "WHAT", "COUNT", "SIZE"), rows, flexible=1))
    session.say(f"{human_size(sum(sizes.values()))} {'would go' if dry_run else 'went'}.")


def show_disk(session: Session, by: str) -> None:
    """What takes the disks, the biggest first."""
    found = session.client.disk(by)
    if session.json:
        session.emit(found)
        return
    rows = [("server", text(each, "group"), human_size(integer(each, "bytes"))) for each in children(found, "items")]
    nodes = children(found, "nodes")
    for node in nodes if by == "kind" else ():
        rows += [
            (text(node, "node"), text(each, "group"), human_size(integer(each, "bytes")))
            for each in children(node, "items")
        ]
    session.out(table(("WHERE", by.upper(), "SIZE"), rows, flexible=1))
    session.say(_left("server", found))
    for node in nodes:
        session.say(_left(text(node, "node"), node) if truth(node, "answered") else f"{text(node, 'node')}: away.")


def _left(name: str, found: Json) -> str:
    free, total = integer(found, "free_bytes"), integer(found, "total_bytes")
    return f"{name}: {human_size(free)} of {human_size(total)} are free on its disk."
