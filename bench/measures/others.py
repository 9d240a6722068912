"""Benches that stand alone and write rows with ``--json``: depth of the queue, logs, metrics, staging of data."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.context import Context
from bench.values import Measure, Row, Untrue, from_document
from tools.environment import ROOT, clean_environment

LONGEST_S = 1500


def rows_of(path: Path, name: str) -> list[Row]:
    """The rows in a file: a list of them, or an object that has them under ``rows``."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    listed = raw.get("rows", []) if isinstance(raw, dict) else raw
    rows = [from_document(each) for each in listed if isinstance(each, dict)]
    if not rows:
        raise Untrue(f"bench.{name} wrote no rows")
    return rows


def alone(name: str) -> Callable[[Context], Sequence[Row]]:
    """Runs ``python -m bench.NAME --json FILE`` and reads its rows; ``--quick`` is handed on where it is known."""

    def run(context: Context) -> Sequence[Row]:
        script = ROOT / "bench" / f"{name}.py"
        if not script.exists():
            raise Untrue(f"there is no bench/{name}.py")
        target = context.folder / f"{name}.json"
        command = [sys.executable, "-m", f"bench.{name}", "--json", str(target)]
        text = script.read_text(encoding="utf-8")
        if context.quick and '"--quick"' in text:
            command.append("--quick")
        done = subprocess.run(
            command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
        if done.returncode != 0 or not target.exists():
            words = (done.stderr or done.stdout).strip().splitlines()
            raise Untrue(f"bench.{name} ended with {done.returncode}: {words[-1] if words else 'without a word'}")
        return rows_of(target, name)

    return run


MEASURES = (
    Measure("depth", "cancel, show and list at depth", alone("depth")),
    Measure("logs", "log lines of one run, followed, / a bare file", alone("logs")),
    Measure("metrics", "metrics into the store; `runyard.log`", alone("metrics")),
    Measure("staging", "second run on 10,000 files; first staging of 1 GiB", alone("staging")),
)
