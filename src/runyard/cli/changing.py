"""``cancel`` and ``delete``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from runyard.cli.failures import REFUSED, sentence
from runyard.cli.selecting import many, selectors, without_noun
from runyard.cli.session import Session, common
from runyard.client.errors import Misuse, Refused


@click.command()
@selectors()
@common
@click.pass_obj
def cancel(session: Session, words: tuple[str, ...]) -> int:
    """Stop runs: the whole process tree of each. Prints the ids of those that are stopped or on their way to it."""
    named = without_noun("cancel", words)
    if not named:
        raise Misuse("`cancel` needs a run: give an id, the beginning of one, `last`, `last-3` or `tag:NAME`.")
    found = session.client.cancel_many(named)
    if session.json:
        refused = [{"id": name, "code": code, "message": message} for name, code, message in found.refused]
        session.emit({"ids": [run.id for run in found.runs], "refused": refused})
        return REFUSED if refused else 0
    for run in found.runs:
        session.out(run.id)
        session.say(f"{run.id}: {session.state(run.state)}" + (f" ({run.sentence})" if run.sentence else ""))
    for name, _code, message in found.refused:
        session.say(f"error: {name}: {message}")
    if not found.runs and not found.refused:
        session.say("Nothing that was named is still going.")
    return REFUSED if found.refused else 0


@click.command()
@selectors()
@click.option("--with-results", is_flag=True, help="Also remove what the run stored in its bucket.")
@common
@click.pass_obj
def delete(session: Session, words: tuple[str, ...], with_results: bool) -> int:
    """Remove the records of final runs. What is in a bucket stays there, unless --with-results."""

    def remove(run_id: str) -> str:
        session.client.delete(run_id, with_results=with_results)
        return f"{run_id}: deleted" + (", with its results" if with_results else "")

    return _each(session, many(session, "delete", words), remove)


def _each(session: Session, ids: Sequence[str], change: Callable[[str], str]) -> int:
    """Change each run; those that are refused do not keep the others from it. The exit code."""
    done: list[str] = []
    refused: list[dict[str, str]] = []
    for run_id in ids:
        try:
            told = change(run_id)
        except Refused as error:
            refused.append({"id": run_id, "code": error.code, "message": sentence(error)})
            session.say(f"error: {run_id}: {sentence(error)}")
            continue
        done.append(run_id)
        if not session.json:
            session.out(run_id)
            session.say(told)
    if session.json:
        session.emit({"ids": done, "refused": refused})
    return REFUSED if refused else 0
