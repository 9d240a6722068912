"""Which runs are meant: words of the command line to ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click

from runyard.cli.catalog import LATER_NOUNS, RUN_NOUNS
from runyard.cli.session import Function, NotYet, Session
from runyard.client.errors import Misuse
from runyard.core.errors import RunyardError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

MANY: Final = 8
"""From so many runs on, a list of runs is asked for instead of each."""


def without_noun(verb: str, words: Sequence[str]) -> tuple[str, ...]:
    """The words behind the noun, if there is one. Raises :class:`NotYet` for a noun of a later version."""
    if words and words[0] in LATER_NOUNS:
        raise NotYet(f"{verb} {words[0]}")
    return tuple(words[1:] if words and words[0] in RUN_NOUNS else words)


def many(session: Session, verb: str, words: Sequence[str]) -> tuple[str, ...]:
    """The ids of all runs that the words name, each once. Raises :class:`Misuse` when they name none."""
    selectors = without_noun(verb, words)
    if not selectors:
        raise Misuse(f"`{verb}` needs a run: give an id, the beginning of one, `last`, `last-3` or `tag:NAME`.")
    known = _newest(session, selectors)
    found = ((each,) if each in known else session.client.resolve(each) for each in selectors)
    return tuple(dict.fromkeys(run for ids in found for run in ids))


def _newest(session: Session, selectors: Sequence[str]) -> set[str]:
    """Ids of the newest runs, where many are named: most of them are mostly those, and need not be asked for singly."""
    if len(selectors) < MANY:
        return set()
    return {run.id for run in islice(session.client.runs(limit=2 * len(selectors)), 2 * len(selectors))}


def one(session: Session, verb: str, words: Sequence[str]) -> str:
    """The id of the one run that the words name."""
    ids = many(session, verb, words)
    if len(ids) != 1:
        raise Misuse(f"`{verb}` takes one run and {len(ids)} are named: give an id.")
    return ids[0]


def complete_runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001  # click's
    from click.shell_completion import CompletionItem  # noqa: PLC0415  # for start-up: only completion comes here

    from runyard.client.client import Client  # noqa: PLC0415  # as above
    from runyard.client.transport import Limits  # noqa: PLC0415  # as above

    try:
        with Client(limits=Limits(connect=0.5, read=1, tries=1)) as client:
            runs = list(client.runs(limit=50))
    except RunyardError:
        return []
    tags = dict.fromkeys(f"tag:{tag}" for run in runs for tag in run.tags)
    found = [("last", "the newest run"), *((run.id, f"{run.state}  {run.name}") for run in runs)]
    found += [(tag, "all runs with this tag") for tag in tags]
    return [CompletionItem(value, help=text) for value, text in found if value.startswith(incomplete)]


def selectors(metavar: str = "[training-runs] ID...") -> Callable[[Function], Function]:
    """The argument ``words``: a noun, perhaps, and selectors of runs."""

    def decorate(function: Function) -> Function:
        argument: Any = click.argument("words", nargs=-1, metavar=metavar, shell_complete=complete_runs)
        return argument(function)

    return decorate
