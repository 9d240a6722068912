"""``monitor``: stay with a run, by its log or by its metrics."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator

import click

from runyard.cli.curves import value_text
from runyard.cli.following import detached, ending, follow_one
from runyard.cli.metrics import HINT
from runyard.cli.selecting import one, selectors, without_noun
from runyard.cli.session import Session, common
from runyard.client.metric_records import NewPoints
from runyard.client.records import FINAL
from runyard.client.waiting import verdict

WHAT = ("logs", "metrics")


@click.command()
@selectors("[training-runs] ID [logs|metrics]")
@common
@click.pass_obj
def monitor(session: Session, words: tuple[str, ...]) -> int:
    """Follow a run: its log (or its metrics), its changes of state, and how it ends."""
    rest = without_noun("monitor", words)
    what = rest[-1] if rest and rest[-1] in WHAT else "logs"
    run_id = one(session, "monitor", rest[:-1] if rest and rest[-1] in WHAT else rest)
    code = follow_one(session, run_id) if what == "logs" else _follow_metrics(session, run_id)
    if session.json:
        session.emit(session.client.run(run_id).raw)
    return code


def _follow_metrics(session: Session, run_id: str) -> int:
    seen = False
    try:
        for item in session.client.follow_metrics(run_id):
            if isinstance(item, NewPoints):
                seen = True
                for line in lines_of(item):
                    click.echo(line, file=sys.stderr if session.json else sys.stdout)
            elif item.state not in FINAL:
                session.say(f"{run_id}: {session.state(item.state)}")
        run = session.client.wait(run_id)[0]
    except KeyboardInterrupt:
        return detached(session, [run_id], f"monitor {run_id} metrics")
    if not seen:
        session.say(HINT)
    session.say(ending(session, run))
    return verdict([run])


def lines_of(points: NewPoints) -> Iterator[str]:
    """A line for each step of each group (and learner, where there are others), in the order they were measured."""
    found: defaultdict[tuple[int | None, str, int, int], dict[str, str]] = defaultdict(dict)
    times: dict[tuple[int | None, str, int, int], int] = {}
    for series in points.series:
        for step, at, value in zip(series.steps, series.times_ms, series.values, strict=True):
            moment = 0 if step is not None else at
            key = (step, series.group, series.learner, moment)
            found[key][series.name] = value_text(value)
            times.setdefault(key, at)
    for key in sorted(found, key=lambda key: times[key]):
        step, group, learner, _ = key
        head = [f"step {step}" if step is not None else "", group, f"learner {learner}" if learner > 1 else ""]
        yield "  ".join([*filter(None, head), *(f"{name}={text}" for name, text in found[key].items())])
