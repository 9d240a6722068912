"""``list``: training runs as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final

import click

from runyard.cli.selecting import without_noun
from runyard.cli.session import Session, common
from runyard.cli.table import table
from runyard.cli.times import age, duration, money, now
from runyard.client.errors import Misuse
from runyard.client.records import Run

STATES: Final = ("waiting", "starting", "running", "stopping", "storing", "completed", "failed", "canceled")
OLD_STATES: Final = {"pending": ("waiting", "starting"), "error": ("failed",)}
ELSEWHERE: Final = {
    noun: (module, module)
    for module, nouns in {
        "connections": ("connection", "connections"),
        "tokens": ("token", "tokens"),
        "accounts": ("account", "accounts"),
        "secrets": ("secret", "secrets"),
        "frameworks": ("framework", "frameworks"),
        "members": ("member", "members"),
        "plans": ("plan", "plans"),
    }.items()
    for noun in nouns
}

SORTS: Final[dict[str, Callable[[Run], Any]]] = {
    "created": lambda run: run.created_at or now(),
    "name": lambda run: run.name,
    "state": lambda run: STATES.index(run.state) if run.state in STATES else len(STATES),
    "priority": lambda run: run.priority,
    "cost": lambda run: float(run.cost or 0),
    "duration": lambda run: ((run.finished_at or now()) - run.started_at).total_seconds() if run.started_at else 0.0,
}


@click.command("list")
@click.argument("words", nargs=-1, metavar="[training-runs]")
@click.option("--state", multiple=True, metavar="S", help="Only runs in this state; may be given several times.")
@click.option("--tag", metavar="T", help="Only runs with this tag.")
@click.option("--sort", metavar="K", help="created, name, state, priority, cost or duration; -K turns it round.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1), metavar="N", help="The newest N.")
@common
@click.pass_context
def list_command(
    context: click.Context,
    words: tuple[str, ...],
    state: tuple[str, ...],
    tag: str | None,
    sort: str | None,
    limit: int,
) -> None:
    """List training runs, newest first."""
    session: Session = context.obj
    if words and words[0] in ELSEWHERE:
        module, name = ELSEWHERE[words[0]]
        group: click.Group = getattr(import_module(f"runyard.cli.{module}"), name)
        context.invoke(group.commands["list"])
        return
    rest = without_noun("list", words)
    if rest:
        raise Misuse(f"`list` does not know {' '.join(rest)!r}: filter with --state and --tag.")
    runs = _sorted(list(session.client.runs(states=_states(state), tag=tag, limit=limit)), sort)
    if session.json:
        session.emit([run.raw for run in runs])
    elif not runs:
        session.say("There are no such runs." if state or tag else "There are no runs yet: `train` submits one.")
    else:
        session.out(run_table(session, runs))
        if len(runs) == limit:
            session.say(f"(the newest {limit}; --limit shows more)")


def _states(words: Sequence[str]) -> tuple[str, ...]:
    found: list[str] = []
    for word in (part for each in words for part in each.split(",")):
        if word not in STATES and word not in OLD_STATES:
            raise click.BadParameter(f"{word!r} is no state; these are: {', '.join(STATES)}.", param_hint="--state")
        found += OLD_STATES.get(word, (word,))
    return tuple(found)


def _sorted(runs: list[Run], sort: str | None) -> list[Run]:
    if sort is None:
        return runs
    key = sort.removeprefix("-")
    if key not in SORTS:
        raise click.BadParameter(f"{key!r} is no order; these are: {', '.join(SORTS)}.", param_hint="--sort")
    return sorted(runs, key=SORTS[key], reverse=sort.startswith("-"))


def run_table(session: Session, runs: Sequence[Run]) -> str:
    """Runs, one a line."""
    rows = [
        (run.id, run.name, session.state(run.state), _why(run), age(run.created_at), duration(run), ",".join(run.tags),
         money(run.cost))
        for run in runs
    ]  # fmt: skip
    return table(("ID", "NAME", "STATE", "WHY", "AGE", "TIME", "TAGS", "COST"), rows, flexible=3)


def _why(run: Run) -> str:
    if run.state == "running":
        return run.sentence or "" if run.reason else ""  # it does nothing
    return "" if run.state == "completed" else run.sentence or run.readiness or run.reason or ""
