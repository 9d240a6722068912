"""Benches that stand alone and write rows with ``--json``: depth of the queue, logs, metrics, staging of data."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.context import Context
from bench.values import Measure, Row, Untrue, from_document, row
from tools.environment import ROOT, clean_environment

LONGEST_S = 1500
SHORT = {
    "depth": ["--runs", "10000"],
    "logs": ["--quick"],
    "metrics": ["--quick"],
    "staging": ["--repeat", "1"],
}
"""The words of each that make it short."""


def rows_of(path: Path, name: str) -> list[Row]:
    """The rows in a file: a list of them, or an object that has them under ``rows``."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    listed = raw.get("rows", []) if isinstance(raw, dict) else raw
    rows = [staged(each) if "unit" not in each else from_document(each) for each in listed if isinstance(each, dict)]
    if not rows:
        raise Untrue(f"bench.{name} wrote no rows")
    return rows


def staged(raw: Mapping[str, Any]) -> Row:
    """A row of ``bench.staging``: seconds of ours, beside those of the fastest other client where there is one, whose
    target is then the ratio of the speeds."""
    if raw.get("ratio") is None:
        name = f"{raw['measure']}: view ready after the listing"
        sentence = f"{raw.get('fetched')} bytes fetched"
        found = row(name, "s", [float(raw["ours"])], f"<= {raw['target']}", note=sentence)
        return found if not raw.get("fetched") else replace(found, met=False)
    sentence = f"ours {raw['ours']} s, {raw['peer_name']}, the fastest other client, {raw['peer']} s"
    name = f"{raw['measure']}: speed / the fastest client tried beside it"
    return row(name, "x", [float(raw["ratio"])], f">= {raw['target']}", note=sentence)


def alone(name: str) -> Callable[[Context], Sequence[Row]]:
    """Runs ``python -m bench.NAME --json FILE`` and reads its rows."""

    def run(context: Context) -> Sequence[Row]:
        script = ROOT / "bench" / f"{name}.py"
        if not script.exists():
            raise Untrue(f"there is no bench/{name}.py")
        target = context.folder / f"{name}.json"
        command = [sys.executable, "-m", f"bench.{name}", "--json", str(target)]
        if context.quick:
            command += SHORT[name]
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
