"""``logs`` and ``monitor``: what a run prints."""

from __future__ import annotations

import re
import sys
from typing import Any

import click

from runyard.cli.following import detached, follow_one, write_log
from runyard.cli.selecting import one, selectors, without_noun
from runyard.cli.session import NotYet, Session, common
from runyard.cli.times import since as read_since
from runyard.client.records import LogChunk


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
    wanted = _Grep(session, grep)
    query: dict[str, Any] = {**options, "since": None if options["since"] is None else read_since(options["since"])}
    if not follow:
        return _print(session, run_id, wanted, query)
    try:
        for item in session.client.follow(run_id, **query):
            if isinstance(item, LogChunk):
                wanted.write(item.text)
        wanted.close()
    except KeyboardInterrupt:
        return detached(session, [run_id], f"logs --follow {run_id}")
    return 0


def _print(session: Session, run_id: str, wanted: _Grep, query: dict[str, Any]) -> int:
    body = session.client.log(run_id, **query)
    if session.json:
        session.emit({"id": run_id, "text": wanted.filtered(body.decode("utf-8", "replace"))})
    elif wanted.pattern is None:
        sys.stdout.buffer.write(body)
    else:
        wanted.write(body.decode("utf-8", "replace"))
        wanted.close()
    return 0


class _Grep:
    """Writes what is wanted of a log: whole lines that match, or, without a pattern, everything at once."""

    def __init__(self, session: Session, pattern: str | None) -> None:
        self._session = session
        self._rest = ""
        try:
            self.pattern = None if pattern is None else re.compile(pattern)
        except re.error as error:
            raise click.BadParameter(f"{pattern!r} is no regular expression: {error}.", param_hint="--grep") from None

    def write(self, text: str) -> None:
        if self.pattern is None:
            write_log(self._session, text)
            return
        *lines, self._rest = (self._rest + text).split("\n")
        kept = self.filtered("".join(f"{line}\n" for line in lines))
        if kept:
            write_log(self._session, kept)

    def close(self) -> None:
        if self._rest:
            rest, self._rest = self._rest, ""
            self.write(rest + "\n")

    def filtered(self, text: str) -> str:
        if self.pattern is None:
            return text
        return "".join(line for line in text.splitlines(keepends=True) if self.pattern.search(line))


@click.command()
@selectors("[training-runs] ID [logs|metrics]")
@common
@click.pass_obj
def monitor(session: Session, words: tuple[str, ...]) -> int:
    """Follow a run: its log, its changes of state, and how it ends."""
    rest = without_noun("monitor", words)
    if rest and rest[-1] == "metrics":
        raise NotYet("monitor metrics")
    run_id = one(session, "monitor", rest[:-1] if rest and rest[-1] == "logs" else rest)
    code = follow_one(session, run_id)
    if session.json:
        session.emit(session.client.run(run_id).raw)
    return code
