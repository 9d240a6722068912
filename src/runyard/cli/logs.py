"""``logs``: what a run prints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import click

from runyard.cli.failures import INTERRUPTED
from runyard.cli.following import detached, write_log
from runyard.cli.selecting import one, selectors
from runyard.cli.session import Session, common
from runyard.cli.times import since as read_since
from runyard.client.records import LogChunk
from runyard.client.run_calls import WhichLog


@click.command()
@selectors()
@click.option("--follow", "-f", is_flag=True, help="Stay until the log is complete, over restarts and attempts.")
@click.option("--tail", "-n", type=click.IntRange(min=0), metavar="N", help="The last N lines only.")
@click.option("--since", metavar="T", help="What was printed since 10m, 2h, or an ISO time.")
@click.option("--grep", metavar="RE", help="Only lines that this regular expression finds.")
@click.option("--learner", default=1, show_default=True, type=click.IntRange(min=1), help="Of a distributed run.")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="An earlier attempt; the last without it.")
@click.option(
    "--stream",
    default="training-log",
    show_default=True,
    type=click.Choice(["training-log", "load-data", "load-model"]),
    help="Which log.",
)
@common
@click.pass_obj
def logs(session: Session, words: tuple[str, ...], follow: bool, grep: str | None, **options: Any) -> int:
    """Print a run's log, or follow it. Ctrl-C while following leaves the run alone."""
    run_id = one(session, "logs", words)
    wanted = _Wanted(session, run_id, _pattern(grep))
    since = None if options["since"] is None else read_since(options["since"])
    which = replace(WhichLog(**{key: value for key, value in options.items() if key != "since"}), since=since)
    try:
        for data in _followed(session, run_id, which) if follow else _as_it_is(session, run_id, which):
            wanted.write(data)
        wanted.close()
    except KeyboardInterrupt:
        return detached(session, [run_id], f"logs --follow {run_id}") if follow else INTERRUPTED
    return 0


def _followed(session: Session, run_id: str, which: WhichLog) -> Iterator[bytes]:
    return (item.data for item in session.client.follow(run_id, which) if isinstance(item, LogChunk))


def _as_it_is(session: Session, run_id: str, which: WhichLog) -> Iterator[bytes]:
    with session.client.read_log(run_id, which) as stream:
        yield from stream.chunks(1 << 18)


class _Wanted:
    """Writes what is wanted of a log: everything as it comes, or whole lines that match; with ``--json`` at the end."""

    def __init__(self, session: Session, run_id: str, pattern: re.Pattern[str] | None) -> None:
        self._session = session
        self._run_id = run_id
        self._pattern = pattern
        self._rest = b""
        self._kept: list[bytes] = []

    def write(self, data: bytes) -> None:
        if self._pattern is not None:
            *lines, self._rest = (self._rest + data).split(b"\n")
            data = b"".join(line + b"\n" for line in lines if self._pattern.search(_text(line)))
        if self._session.json:
            self._kept.append(data)
        elif data:
            write_log(data)

    def close(self) -> None:
        if self._rest:
            self.write(b"\n")
        if self._session.json:
            text = b"".join(self._kept).decode("utf-8", "replace")
            self._session.emit({"id": self._run_id, "text": text})


def _text(line: bytes) -> str:
    """A line for an expression; surrogates stand for bytes that are no UTF-8."""
    return line.decode("utf-8", "surrogateescape")


def _pattern(text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        raise click.BadParameter(f"{text!r} is no regular expression: {error}.", param_hint="--grep") from None
