"""What `python -m bench` does."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from pathlib import Path

from bench import page, simulator
from bench.catalog import BY_NAME, MEASURES
from bench.chaos import command as chaos
from bench.context import Context
from bench.figures import Figures, Taken
from bench.machine import compile_ours, describe, end_in_order, load, quiet
from bench.peers import install
from bench.peers.measure import PEERS, beside
from bench.soak import command as soak
from bench.values import Measure, Row, Untrue, number
from tools.screen import table

WHAT = """Every figure of the table beside the peers', and the page that tells them. `simulator` shows what the
scheduler does instead, `chaos` what is left when things die, `soak` whether memory grows."""
ALONE = {"simulator": simulator.main, "chaos": chaos.main, "soak": soak.main}
"""What has words and a page of its own."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=WHAT)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(BY_NAME)}, peers")
    parser.add_argument("--quick", action="store_true", help="short forms; nothing is written to docs/")
    parser.add_argument("--peers", action="store_true", help="the peers, too, installed where they are missing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows there")
    parser.add_argument("--dry", action="store_true", help="write nothing to docs/")
    parser.add_argument("--page", action="store_true", help="only write the page again, from what was measured last")
    parser.add_argument("--patience", type=float, default=60, metavar="S", help="wait so long for a quiet machine")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(BY_NAME) - {"peers"})
    if unknown:
        parser.error(f"there is no measure {', '.join(unknown)}: {', '.join(BY_NAME)}, peers")
    return given


def shown(rows: list[Row]) -> str:
    heads = ["measure", "ours", "unit", "least", "most", "n", "yardstick", "ratio", "target", "", "peers"]
    verdicts = {True: "met", False: "MISSED", None: ""}
    lines = [
        [
            row.measure,
            number(row.ours),
            row.unit,
            number(row.min),
            number(row.max),
            str(row.n or "-"),
            number(row.yardstick),
            number(row.ratio),
            row.target,
            verdicts[row.met],
            "; ".join(f"{name} {number(v) if isinstance(v, float | int) else v}" for name, v in row.peers.items()),
        ]
        for row in rows
    ]
    return table(heads, lines)


def take(measure: Measure, context: Context, patience: float) -> Taken:
    """One measure with its circumstances; a failure is its own, and told."""
    print(f"\n=== {measure.name}: {measure.title}", flush=True)
    busy, began = quiet(patience), time.monotonic()
    print(f"load {load():.2f}; other processes take {busy:.2f} cores", flush=True)
    problem, rows = "", list[Row]()
    try:
        rows = list(measure.run(context))
    except Untrue as untrue:
        problem = str(untrue)
    except Exception as error:  # one measure's trouble must not end the others; it is told as a failure
        problem = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    print(shown(rows) if rows else "", flush=True)
    for row in rows:
        if row.note:
            print(f"  {row.measure}: {row.note}", flush=True)
    took = time.monotonic() - began
    print(f"{measure.name}: {'FAILED: ' + problem if problem else 'in order'}, {took:.0f} s", flush=True)
    return Taken(measure.name, rows, problem, busy, load(), took, page.today())


def main() -> int:
    """Exit code: 0 when all measures could be taken and were true, else 1. A missed target is told, and is no error."""
    alone = ALONE.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if alone is not None:
        return alone(sys.argv[2:])
    given = arguments()
    end_in_order()
    figures = Figures.read()
    if given.page:
        page.write(figures)
        return 0
    failed = 0
    compile_ours()
    figures.machine = describe()
    keep = not (given.quick or given.dry)
    with tempfile.TemporaryDirectory(prefix="runyard-bench-") as folder:
        context = Context(Path(folder), given.quick)
        for measure in MEASURES:
            if not given.names or measure.name in given.names:
                taken = take(measure, context, 0 if given.quick else given.patience)
                failed += bool(taken.problem)
                figures.add(taken)
                if keep:
                    figures.write()  # at once: what was taken stays, whatever ends the rest
        if given.peers or "peers" in given.names:
            figures.peers_installed = install.install()
            for peer in PEERS:
                figures.add_peer(peer.name, beside(peer, context))
                if keep:
                    figures.write()
    rows = figures.rows()
    print("\n" + shown(rows))
    if given.json is not None:
        given.json.write_text(json.dumps(figures.document(), indent=1) + "\n", encoding="utf-8")
    if keep:
        figures.write()
        page.write(figures)
        print(f"wrote {page.PAGE}")
    return 1 if failed else 0
