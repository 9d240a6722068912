"""What went wrong, as one sentence and an exit code."""

from __future__ import annotations

import json
import traceback
from http.client import HTTPException
from typing import Final

import click

from runyard.cli.session import NotYet, Session
from runyard.client.errors import Misuse, NotSignedIn, PackingError, Refused, TimedOut, TransferFailed, Unreachable
from runyard.core.errors import RunyardError

USAGE, REFUSED, ABSENT, TIMED_OUT, INTERRUPTED, OURS = 2, 4, 5, 124, 130, 70

EXIT_CODES: Final[dict[type[Exception], int]] = {
    NotYet: REFUSED,
    Refused: REFUSED,
    Unreachable: ABSENT,
    NotSignedIn: ABSENT,
    TransferFailed: ABSENT,
    PackingError: USAGE,
    Misuse: USAGE,
    TimedOut: TIMED_OUT,
    click.ClickException: USAGE,
    HTTPException: ABSENT,
    ConnectionError: ABSENT,
    TimeoutError: ABSENT,
    OSError: USAGE,
}


def report(session: Session, error: Exception) -> int:
    """Tell a failure and give its exit code."""
    if isinstance(error, click.Abort):
        return INTERRUPTED
    code = exit_code(error)
    if session.debug:
        traceback.print_exception(error)
    if session.json:
        click.echo(json.dumps({"error": document(error)}, ensure_ascii=False))
    if isinstance(error, click.UsageError) and error.ctx is not None:
        session.say(error.ctx.get_usage())
    session.say(f"error: {sentence(error)}")
    if code == OURS and not session.debug:
        session.say("This is a fault of the program; `--debug` shows where.")
    return code


def exit_code(error: Exception) -> int:
    """The exit code of an error; 70 for one that is nobody's but ours."""
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), OURS)


def sentence(error: Exception) -> str:
    """What is wrong and what to do."""
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, HTTPException | ConnectionError | TimeoutError):
        return f"The connection broke ({str(error) or type(error).__name__}): try again."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    return str(error) or type(error).__name__


def document(error: Exception) -> dict[str, object]:
    """An error as JSON: ``code``, ``message``, and the problems of a manifest."""
    code = error.code if isinstance(error, RunyardError) else "not_in_this_version" if isinstance(error, NotYet) else ""
    found: dict[str, object] = {"code": code or "usage", "message": sentence(error)}
    if exit_code(error) == OURS:
        found["code"] = "internal"
    if isinstance(error, Refused) and error.problem.problems:
        found["problems"] = [
            {"message": each.message, "line": each.line, "path": each.path} for each in error.problem.problems
        ]
    return found
