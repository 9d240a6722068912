"""How runs ended: a table that compares them, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence

from runyard.cli.session import Session
from runyard.cli.table import table
from runyard.cli.times import duration, money
from runyard.client.records import Run

MOST_PARAMETERS = 6
"""So many hyper-parameters have a column in the table."""
FEW = 4
"""So many runs are named one by one."""


def outcome_table(session: Session, runs: Sequence[Run]) -> str:
    """How runs ended, one a line, with the hyper-parameters in which they differ; a column that is empty is left
    out."""
    names = _differing(runs)
    header = ["ID", "STATE", *names, "TIME", "COST", "WHY"]
    rows = [
        [
            run.id,
            session.state(run.state),
            *(str(run.hyper_parameters.get(name, "")) for name in names),
            duration(run),
            money(run.cost),
            _remark(run),
        ]
        for run in runs
    ]
    kept = [column for column in range(len(header)) if column < 2 or any(row[column] for row in rows)]
    shown = [[row[column] for column in kept] for row in (header, *rows)]
    return table(shown[0], shown[1:], flexible=len(kept) - 1)


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
