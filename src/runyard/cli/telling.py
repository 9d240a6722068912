"""``events`` and ``explain``: what happened to a run, and why it is where it is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import click

from runyard.cli.selecting import one, selectors
from runyard.cli.session import Session, common
from runyard.cli.table import pairs, table
from runyard.cli.times import local
from runyard.client.decode import moment
from runyard.client.records import Event

KNOWN = frozenset({"seq", "at", "kind", "attempt", "run", "account"})


@click.command()
@selectors()
@common
@click.pass_obj
def events(session: Session, words: tuple[str, ...]) -> None:
    """Print what happened to a run, oldest first."""
    found = session.client.history(one(session, "events", words))
    if session.json:
        session.emit([event.raw for event in found])
        return
    rows = [
        (local(each.at), each.kind, "" if each.attempt is None else str(each.attempt), _rest(session, each))
        for each in found
    ]
    session.out(table(("AT", "WHAT", "ATTEMPT", ""), rows, flexible=3))


def _rest(session: Session, event: Event) -> str:
    shown = {key: value for key, value in event.raw.items() if key not in KNOWN and value is not None}
    told = {key: session.state(str(value)) if key == "state" else _value(value) for key, value in shown.items()}
    return ", ".join(f"{key} {value}" for key, value in told.items())


def _value(value: object) -> str:
    """A value of an event; a whole number as large as this can only be a time in milliseconds."""
    if isinstance(value, int) and value > 10**12:
        return local(datetime.fromtimestamp(value / 1000, UTC))
    return str(value)


@click.command()
@selectors()
@common
@click.pass_obj
def explain(session: Session, words: tuple[str, ...]) -> None:
    """Say why a run is where it is, its place in the queue, and when it may start."""
    found = session.client.explain(one(session, "explain", words))
    if session.json:
        session.emit(found.raw)
        return
    reserved = moment(found.raw, "reserved_at")
    session.out(found.sentence or f"{found.id} is {session.state(found.state)}.")
    facts = pairs(
        [
            ("state", session.state(found.state) + (f" ({found.readiness})" if found.readiness else "")),
            ("place", f"{found.position} in the queue" if found.position else ""),
            ("ahead", "" if found.ahead is None else str(found.ahead)),
            ("expected", f"to start at {local(found.estimate)}" if found.estimate else ""),
            ("reserved", f"room from {local(reserved)} at the latest" if reserved else ""),
        ]
    )
    session.out(f"\n{facts}")
    for step in found.steps:
        session.out(f"- {_step(step)}")


def _step(step: object) -> str:
    if isinstance(step, Mapping):
        return ", ".join(f"{key}: {value}" for key, value in step.items())  # pyright: ignore[reportUnknownVariableType]  # any JSON
    return str(step)
