"""What was measured last, kept as JSON beside the page: a run of some measures replaces those alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.catalog import BY_NAME, MEASURES
from bench.peers.measure import PEERS, Found
from bench.values import Row, from_document
from tools.environment import ROOT

FILE = ROOT / "docs" / "performance" / "figures.json"

BESIDE = (
    ("accepted POST to the program's first line", "first_line"),
    ("call of the POST to the first line", "first_line"),
    ("accepted POST to the end of the first torch step", "first_step"),
    ("40 short torch runs", "torch"),
    ("200 trivial runs", "trivial"),
    ("bulk submission", "bulk"),
    ("PSS of the server, idle", "memory"),
    ("`up --detach` to a node", "up_s"),
    ("metrics taken", "metrics"),
    ("points taken", "metrics"),
    ("metrics into the store", "metrics"),
    ("runyard.log call", "log_call"),
    ("`runyard --help`", "import_cpu"),
)
"""Which figure of the peers stands beside which rows, told by how the rows begin."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One measure as it was taken. ``problem``: why it counts for nothing; ``busy``: cores that other processes took
    just before; ``date`` in ISO."""

    name: str
    rows: list[Row]
    problem: str
    busy: float
    load: float
    seconds: float
    date: str


@dataclass(slots=True)
class Figures:
    """All that the page tells."""

    taken: dict[str, Taken] = field(default_factory=dict[str, Taken])
    peers: dict[str, Found] = field(default_factory=dict[str, Found])
    peers_installed: dict[str, str] = field(default_factory=dict[str, str])
    machine: dict[str, str] = field(default_factory=dict[str, str])

    @staticmethod
    def read(path: Path = FILE) -> Figures:
        """Empty where there is no file, or none of this shape."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            taken = {name: _taken(name, each) for name, each in raw["measures"].items() if name in BY_NAME}
            peers = {
                name: Found(each["figures"], each["problems"], each["load"]) for name, each in raw["peers"].items()
            }
            return Figures(taken, peers, raw["peers_installed"], raw["machine"])
        except (OSError, ValueError, KeyError, TypeError):
            return Figures()

    def add(self, taken: Taken) -> None:
        """Take in a measure. One that failed keeps no older rows beside its failure."""
        self.taken[taken.name] = taken

    def add_peer(self, name: str, found: Found) -> None:
        self.peers[name] = found

    def rows(self) -> list[Row]:
        """All rows in the order of the table, the peers' figures beside them."""
        found: list[Row] = []
        for measure in MEASURES:
            if measure.name in self.taken:
                found += [self.with_peers(row) for row in self.taken[measure.name].rows]
        return found

    def with_peers(self, row: Row) -> Row:
        key = next((key for begin, key in BESIDE if row.measure.startswith(begin)), None)
        if key is None:
            return row
        beside: dict[str, float | str] = {}
        for peer in PEERS:
            found = self.peers.get(peer.name, Found())
            if key in found.figures:
                beside[peer.name] = found.figures[key]
            elif key in found.problems:
                beside[peer.name] = "failed"
        return replace(row, peers={**row.peers, **beside})

    def document(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "rows": [row.document() for row in self.rows()],
            "measures": {
                name: {
                    "rows": [row.document() for row in taken.rows],
                    "problem": taken.problem,
                    "busy": round(taken.busy, 3),
                    "load": round(taken.load, 2),
                    "seconds": round(taken.seconds, 1),
                    "date": taken.date,
                }
                for name, taken in self.taken.items()
            },
            "peers": {name: found.document() for name, found in self.peers.items()},
            "peers_installed": self.peers_installed,
        }

    def write(self, path: Path = FILE) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        document = self.document()
        del document["rows"]  # they stand under their measures
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _taken(name: str, raw: Mapping[str, Any]) -> Taken:
    rows = [from_document(each) for each in raw["rows"]]
    rows = [replace(row, met=each["met"]) for row, each in zip(rows, raw["rows"], strict=True)]
    return Taken(name, rows, raw["problem"], raw["busy"], raw["load"], raw["seconds"], raw["date"])
