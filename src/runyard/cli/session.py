"""One call of the command line: what was asked of all commands, and where its words go."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from runyard.client.client import Client

Function = TypeVar("Function", bound=Callable[..., Any])

SERVICE_STATES: Final = {
    "waiting": "pending",
    "starting": "pending",
    "running": "running",
    "stopping": "running",
    "storing": "running",
    "completed": "completed",
    "failed": "error",
    "canceled": "canceled",
}
"""What ``ml`` calls our states."""


class NotYet(Exception):
    """A command, or a part of one, that comes with a later version."""

    def __init__(self, what: str) -> None:
        super().__init__(f"`{what}` is not in this version.")


def later(whole: str) -> click.Command:
    """A command, by its whole name, that says that it is not there yet, whatever stands behind it."""

    def refuse() -> None:
        raise NotYet(whole)

    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    name = whole.rpartition(" ")[2]
    return click.Command(
        name, callback=refuse, context_settings=settings, add_help_option=False, short_help="Not in this version."
    )


@dataclass(slots=True)
class Session:
    """``program`` is ``runyard`` or ``ml``. Ids and data go to stdout, prose goes to stderr."""

    program: str = "runyard"
    json: bool = False
    debug: bool = False
    _client: Client | None = field(default=None, repr=False)

    @property
    def client(self) -> Client:
        """The client of this call, made when it is first needed."""
        if self._client is None:
            from runyard.client.client import Client  # noqa: PLC0415  # for start-up: help and usage need no HTTP

            self._client = Client(agent=self.program)
        return self._client

    @property
    def in_old_words(self) -> bool:
        """Whether to speak as the older service's command line did."""
        return self.program == "ml"

    def state(self, state: str) -> str:
        """A state as this program calls it."""
        return SERVICE_STATES.get(state, state) if self.in_old_words else state

    def out(self, text: str) -> None:
        """A line on stdout: an id, or what was asked for."""
        click.echo(text)

    def say(self, text: str) -> None:
        """A line on stderr: prose."""
        click.echo(text, err=True)

    def emit(self, document: Mapping[str, object] | Sequence[object]) -> None:
        """The one JSON document of a call with ``--json``."""
        click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))

    def run_id(self, run_id: str) -> None:
        """Tell the id of a run that was made."""
        self.out(f"Model-ID is '{run_id}'" if self.in_old_words else run_id)


def session_of(context: click.Context) -> Session:
    """The session of a click context."""
    return context.find_root().ensure_object(Session)


def _remember(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        setattr(session_of(context), parameter.name, True)


def common(function: Function) -> Function:
    """The options of every command: ``--json`` and ``--debug``."""
    for name, text in (("--debug", "Show the trace of an error."), ("--json", "Print one JSON document.")):
        option = click.option(name, is_flag=True, expose_value=False, callback=_remember, help=text)
        function = option(function)
    return function


def on_terminal() -> bool:
    """Whether prose goes to a person's terminal."""
    return sys.stderr.isatty()
