"""Writes ``docs/performance.md`` and its plots from what was measured last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from bench.catalog import MEASURES
from bench.figures import Figures, Taken
from bench.peers.install import BY_NAME as PACKAGES
from bench.peers.measure import PEERS
from bench.plots import Bar, plot
from bench.values import Row, from_document, number
from tools.environment import ROOT

PAGE = ROOT / "docs" / "performance.md"
FOLDER = ROOT / "docs" / "performance"
HOW = ROOT / "bench" / "how.md"
ELSEWHERE = FOLDER / "elsewhere.json"
MISSED = ROOT / "bench" / "missed.md"

PLOTS = (
    (
        "first-line",
        "From a submission to the program's first line, idle",
        "ms",
        "accepted POST to the program's first line",
    ),
    (
        "first-step",
        "From a submission to the end of the first torch step",
        "ms",
        "accepted POST to the end of the first torch",
    ),
    ("torch", "40 short torch runs on 2 slots, beside their own compute", "x ideal", "40 short torch runs"),
    ("trivial", "200 trivial runs on 2 slots, beside xargs -P2", "x xargs", "200 trivial runs"),
)
YARDSTICKS = {"torch": "xargs -P2", "first-line": "a fresh interpreter", "first-step": "a fresh interpreter"}


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def beside(row: Row) -> str:
    told = [f"{name} {number(v) if isinstance(v, float | int) else v}" for name, v in row.peers.items()]
    return ", ".join(told)


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def spread(row: Row) -> str:
    return "" if row.n == 0 else f"{number(row.median)} ({number(row.min)}-{number(row.max)}), {row.n}"


def line(row: Row) -> str:
    verdict = {True: "met", False: "**missed**", None: ""}[row.met]
    stick = f"{number(row.yardstick)} ({number(row.ratio)} x)" if row.yardstick else ""
    ours = "-" if row.ours is None else f"{number(row.ours)} {row.unit}"
    cells = [row.measure, f"**{ours}**" if row.target else ours, row.target, verdict, spread(row), stick, beside(row)]
    return "| " + " | ".join(cell(each) for each in cells) + " |"


COLUMNS = ("measure", "ours", "target", "", "median (least-most), n", "yardstick (ratio)", "peers")
HEAD = f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}"


def gate(figures: Figures) -> str:
    """The table of all rows with a target."""
    rows = [row for row in figures.rows() if row.target]
    return "\n".join([HEAD, *map(line, rows)])


def section(taken: Taken, figures: Figures, title: str) -> str:
    """All rows of a measure, and how busy the machine was."""
    busy = f"Taken on {taken.date} in {taken.seconds:.0f} s; just before, other processes took {taken.busy:.2f} cores."
    rows = [figures.with_peers(row) for row in taken.rows]
    notes = [f"- {row.measure}: {row.note}" for row in rows if row.note]
    if taken.problem:
        busy += f"\n\n**It failed and counts for nothing: {taken.problem}**"
    parts = [f"### {taken.name}: {title}", busy]
    parts += ["\n".join([HEAD, *map(line, rows)])] if rows else []
    return "\n\n".join([*parts, "\n".join(notes)] if notes else parts)


def peers(figures: Figures) -> str:
    """Which peers were measured, under which licence they run, and which could not be."""
    lines = [
        "| peer | version | licence | a process a run | load | not measured |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for peer in PEERS:
        found, package = figures.peers.get(peer.name), PACKAGES[peer.package]
        told = figures.peers_installed.get(peer.package, "not installed")
        problems = "never run" if found is None else "; ".join(f"{what}: {why}" for what, why in found.problems.items())
        busy = "" if found is None else f"{found.load:.1f}"
        shares = "yes" if peer.isolates else "no: processes are used again"
        cells = (peer.name, told, package.licence, shares, busy, problems)
        lines.append("| " + " | ".join(cell(each) for each in cells) + " |")
    return "\n".join(lines)


def bars(rows: list[Row], begin: str, stick: str) -> tuple[list[Bar], float | None]:
    """Ours, the yardstick and the peers, in this order; the target of the first that has one."""
    mine = [row for row in rows if row.measure.startswith(begin) and row.ours]
    found = [Bar(f"Runyard, {row.measure.rpartition(': ')[2]}", row.ours or 0, True, row.min, row.max) for row in mine]
    if mine and mine[0].yardstick:
        found.append(Bar(stick, mine[0].yardstick))
    values: Mapping[str, float | str] = mine[0].peers if mine else {}
    theirs = sorted((value, name) for name, value in values.items() if isinstance(value, float | int))
    found += [Bar(name, float(value)) for value, name in theirs]
    limit = next((float(row.target.split()[-1].replace(",", "")) for row in mine if row.target), None)
    return found, limit


def drawn(figures: Figures) -> list[str]:
    """Write the plots that have something to show; the lines that show them on the page."""
    shown: list[str] = []
    for name, title, unit, begin in PLOTS:
        shapes, limit = bars(figures.rows(), begin, YARDSTICKS.get(name, "yardstick"))
        if shapes:
            FOLDER.mkdir(parents=True, exist_ok=True)
            (FOLDER / f"{name}.svg").write_text(plot(title, unit, shapes, limit), encoding="utf-8")
            shown.append(f"![{title}](performance/{name}.svg)")
    return shown


def missed(figures: Figures) -> str:
    """What is missed, from the rows; why, from ``bench/missed.md``, which a person keeps."""
    rows = [row for row in figures.rows() if row.met is False]
    failed = [taken for taken in figures.taken.values() if taken.problem]
    never = [measure.name for measure in MEASURES if measure.name not in figures.taken]
    lines = [f"- {row.measure}: {number(row.ours)} {row.unit}, target {row.target}" for row in rows]
    lines += [f"- `{taken.name}` failed: {taken.problem}" for taken in failed]
    lines += [f"- `{name}` has not been taken" for name in never]
    why = MISSED.read_text(encoding="utf-8").strip() if MISSED.exists() else ""
    return "\n".join(lines or ["Nothing."]) + (f"\n\n{why}" if why else "")


def elsewhere(path: Path = ELSEWHERE) -> str:
    """What was taken on other machines, by hand put together from the rows that ``--json`` wrote there."""
    parts = ["## On other machines"]
    for place in json.loads(path.read_text(encoding="utf-8")):
        rows = [from_document(raw) for raw in place["rows"]]
        notes = "\n".join(f"- {row.measure}: {row.note}" for row in rows if row.note)
        words = f"Taken on {place['date']}: {place['machine']}."
        parts += [f"### {place['title']}", words, "\n".join([HEAD, *map(line, rows)]), notes]
    return "\n\n".join(parts)


def text(figures: Figures, *, draw: bool = True) -> str:
    machine = "\n".join(f"| {name} | {cell(value)} |" for name, value in figures.machine.items())
    sections = [
        section(figures.taken[measure.name], figures, measure.title)
        for measure in MEASURES
        if measure.name in figures.taken
    ]
    parts = [
        "# Performance",
        "`python -m bench` writes this page; by hand are only `bench/how.md` and `bench/missed.md`, which it takes in.",
        gate(figures),
        *(drawn(figures) if draw else []),
        "## What is missed",
        missed(figures),
        HOW.read_text(encoding="utf-8").strip(),
        "## The machine",
        f"| | |\n| --- | --- |\n{machine}",
        elsewhere(),
        "## Peers",
        peers(figures),
        "## Every figure",
        *sections,
    ]
    return "\n\n".join(parts) + "\n"


def write(figures: Figures, page: Path = PAGE) -> None:
    page.write_text(text(figures), encoding="utf-8")
