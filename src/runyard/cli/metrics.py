"""``metrics``: what runs have measured, as a table with curves, as JSON or as CSV."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click

from runyard.cli.curves import curve, value_text
from runyard.cli.selecting import many, selectors
from runyard.cli.session import Session, common
from runyard.cli.table import table
from runyard.client.metric_calls import WhichMetrics
from runyard.client.metric_records import Metrics

WIDTH = 24
"""Characters of a curve in a table."""
HINT = (
    "no metrics yet: `import runyard; runyard.log(step=1, loss=0.5)` in the program, or TensorBoard files"
    " (docs/howto/metrics.md)"
)


@click.command()
@selectors()
@click.option("--name", metavar="N", help="Only the metric of this name.")
@click.option("--group", metavar="G", help="Only metrics of this group, such as train.")
@click.option("--learner", type=click.IntRange(min=1), help="Only what this learner measured.")
@click.option("--csv", "as_csv", is_flag=True, help="Every point, a line each.")
@click.option("--points", is_flag=True, help="With --json: every point, too.")
@common
@click.pass_obj
def metrics(session: Session, words: tuple[str, ...], as_csv: bool, points: bool, **options: Any) -> None:
    """Show what runs have measured: how many points, the last, lowest and highest value, and the curve."""
    ids = many(session, "metrics", words)
    which = WhichMetrics(**options)
    if as_csv:
        for text in _csv(session, ids, which):
            sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
        return
    if session.json:
        found = [session.client.metrics(each, which, points=points).raw for each in ids]
        session.emit(found[0] if len(found) == 1 else found)
        return
    thin = WhichMetrics(which.name, which.group, which.learner, limit=2 * WIDTH)
    told = [session.client.metrics(each, thin, points=True) for each in ids]
    if any(each.items for each in told):
        session.out(metrics_table(told))
    _remarks(session, told)


def _remarks(session: Session, told: Sequence[Metrics]) -> None:
    for each in told:
        head = f"{each.run}: " if len(told) > 1 else ""
        for note in each.notes:
            session.say(f"{head}note: {note}")
        if not each.items:
            session.say(head + HINT)


def metrics_table(told: Sequence[Metrics]) -> str:
    """One metric a line; of several runs, one metric and run a line, those of one metric below each other."""
    places = {each.run: number for number, each in enumerate(told)}
    lines = [(metric.group, metric.name, places[each.run], each) for each in told for metric in each.items]
    header = ("NAME", "GROUP", "RUN", "POINTS", "LAST", "STEP", "LOWEST", "HIGHEST", "CURVE")
    rows = [
        _row(group, name, each)
        for group, name, _, each in sorted(
            lines, key=lambda line: (line[1::-1] if len(told) > 1 else line[:2], line[2])
        )
    ]
    empty = {1} if not any(row[1] for row in rows) else set[int]()
    empty |= {2} if len(told) == 1 else set()
    kept = [column for column in range(len(header)) if column not in empty]
    shown = [[row[column] for column in kept] for row in (header, *rows)]
    return table(shown[0], shown[1:], flexible=0)


def _row(group: str, name: str, told: Metrics) -> tuple[str, ...]:
    (metric,) = [each for each in told.items if (each.group, each.name) == (group, name)]
    values = [value for each in told.series if (each.group, each.name) == (group, name) for value in each.values]
    return (
        name,
        group,
        told.run,
        str(metric.points),
        value_text(metric.last),
        "" if metric.last_step is None else str(metric.last_step),
        value_text(metric.lowest),
        value_text(metric.highest),
        curve(values, WIDTH),
    )


def _csv(session: Session, ids: Sequence[str], which: WhichMetrics) -> Iterator[bytes]:
    """The points of runs; those of several have the run in front of each line."""
    for number, run_id in enumerate(ids):
        with session.client.read_metrics(run_id, which) as stream:
            if len(ids) == 1:
                yield from stream.chunks()
            else:
                yield from _named(stream.chunks(), run_id, heading=number == 0)


def _named(chunks: Iterator[bytes], run_id: str, *, heading: bool) -> Iterator[bytes]:
    rest, first = b"", True
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\r\n")
        for line in lines:
            if not first or heading:
                yield (b"run" if first else run_id.encode()) + b"," + line + b"\r\n"
            first = False
