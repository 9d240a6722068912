"""How runs ended: a table that compares them, and what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from runyard.cli.curves import curve, value_text
from runyard.cli.session import Session
from runyard.cli.table import table
from runyard.cli.times import duration, money
from runyard.client.metric_calls import WhichMetrics
from runyard.client.metric_records import Metric
from runyard.client.records import Run
from runyard.core.metrics import label, most_telling

MOST_PARAMETERS = 6
"""So many hyper-parameters have a column in the table."""
MOST_METRICS = 2
"""So many metrics have one."""
MOST_CURVES = 50
"""Of so many runs the table has curves: each is asked for."""
CURVE = 16
"""Characters of a curve."""
FEW = 4
"""So many runs are named one by one."""


def outcome_table(session: Session, runs: Sequence[Run]) -> str:
    """How runs ended, one a line, with the hyper-parameters in which they differ; a column that is empty is left
    out."""
    names = _differing(runs)
    measured = main_metrics(runs)
    curves = curves_of(session, measured[0][1]) if measured else {}
    header = ["ID", "STATE", *names, *(heading for heading, _ in measured), "CURVE", "TIME", "COST", "WHY"]
    rows = [
        [
            run.id,
            session.state(run.state),
            *(str(run.hyper_parameters.get(name, "")) for name in names),
            *(value_text(metrics[run.id].last if run.id in metrics else None) for _, metrics in measured),
            curves.get(run.id, ""),
            duration(run),
            money(run.cost),
            _remark(run),
        ]
        for run in runs
    ]
    kept = [column for column in range(len(header)) if column < 2 or any(row[column] for row in rows)]
    shown = [[row[column] for column in kept] for row in (header, *rows)]
    return table(shown[0], shown[1:], flexible=len(kept) - 1)


def main_metrics(runs: Sequence[Run]) -> list[tuple[str, dict[str, Metric]]]:
    """The one or two metrics that tell most about runs, of those that most of them have: a heading, and the metric of
    each run. Groups count unless each run has its own, as where they are folders named after the time."""
    found = {run.id: list(run.metrics.values()) for run in runs}
    for named in (_in_full, _by_name):
        counts = Counter(each for metrics in found.values() for each in {named(metric) for metric in metrics})
        shared = [each for each, count in counts.items() if 2 * count > sum(map(bool, found.values()))]
        if shared:
            return [(label(*each), _of_each(found, named, each)) for each in most_telling(shared, MOST_METRICS)]
    return []


def _in_full(metric: Metric) -> tuple[str, str]:
    return metric.group, metric.name


def _by_name(metric: Metric) -> tuple[str, str]:
    return "", metric.name


def _of_each(
    found: Mapping[str, Sequence[Metric]], named: Callable[[Metric], tuple[str, str]], which: tuple[str, str]
) -> dict[str, Metric]:
    """The metric of each run that is called so; of several the one with the most points."""
    fitting = {run_id: [each for each in metrics if named(each) == which] for run_id, metrics in found.items()}
    return {run_id: max(metrics, key=lambda each: each.points) for run_id, metrics in fitting.items() if metrics}


def curves_of(session: Session, metrics: Mapping[str, Metric]) -> dict[str, str]:
    """The curve of a metric for each run that has it; nothing where there are very many runs."""
    found: dict[str, str] = {}
    for run_id, metric in metrics.items() if len(metrics) <= MOST_CURVES else ():
        which = WhichMetrics(metric.name, metric.group, limit=2 * CURVE)
        told = session.client.metrics(run_id, which, points=True)
        found[run_id] = curve([value for each in told.series for value in each.values], CURVE)
    return found


def _differing(runs: Sequence[Run]) -> list[str]:
    """The hyper-parameters that are not the same in all runs, in their order; of a single run all."""
    names = list(dict.fromkeys(name for run in runs for name in run.hyper_parameters))
    several = [name for name in names if len({repr(run.hyper_parameters.get(name)) for run in runs}) > 1]
    return (several if len(runs) > 1 else names)[:MOST_PARAMETERS]


def _remark(run: Run) -> str:
    return "" if run.state == "completed" else run.sentence or run.reason or ""


def outcome(run: Run) -> dict[str, object]:
    """How a run ended, for ``--json``."""
    keys = ("id", "name", "state", "reason", "fault", "sentence", "exit_code", "cost", "finished_at", "stored_at")
    return {key: run.raw.get(key) for key in (*keys, "hyper_parameters")}


def fetching(session: Session, runs: Sequence[Run]) -> str:
    """How to get what the runs have stored, as one line; empty where none completed."""
    done = [run for run in runs if run.state == "completed"]
    if not done:
        return ""
    shared = set(done[0].tags).intersection(*(run.tags for run in done))
    ids = " ".join(run.id for run in done[:FEW]) + (" ..." if len(done) > FEW else "")
    return f"fetch: {session.program} download {f'tag:{min(shared)}' if shared and len(done) > FEW else ids}"
