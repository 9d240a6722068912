"""What a measure hands back: rows, each a figure of ours with its target, its spread and what stands beside it."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from bench.context import Context

Peers: TypeAlias = Mapping[str, float | str]
"""A peer's figure in the row's unit, or a sentence why there is none."""

TARGET = re.compile(r"(<=?|>=?)\s*([\d,.]+)")


class Untrue(Exception):
    """A check of the results failed: what was measured is not what was meant, and counts for nothing."""


def check(holds: bool, sentence: str) -> None:
    """Raise :class:`Untrue` with a sentence unless something holds."""
    if not holds:
        raise Untrue(sentence)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. ``ours`` is what the target is about; ``median``, ``min``, ``max`` and ``n`` tell the tries behind
    it in the same unit. ``yardstick`` is in its own unit, told in the note where it is another; ``ratio``: ours over
    the yardstick. ``met`` is None where there is no target."""

    measure: str
    unit: str
    ours: float | None
    target: str = ""
    met: bool | None = None
    median: float | None = None
    min: float | None = None
    max: float | None = None
    n: int = 0
    yardstick: float | None = None
    ratio: float | None = None
    peers: Peers = field(default_factory=dict[str, float | str])
    note: str = ""

    def document(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Measure:
    """``name``: what the command line calls it; ``title``: from where to where; ``run``: measures it."""

    name: str
    title: str
    run: Callable[[Context], Sequence[Row]]


def meets(value: float | None, target: str) -> bool | None:
    """Whether a figure is within a target such as ``<= 25`` or ``>= 20,000``; None without one."""
    found = TARGET.match(target)
    if found is None or value is None:
        return None
    limit = float(found[2].replace(",", ""))
    compare = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}[found[1]]
    return bool(compare(value, limit))


def row(
    measure: str,
    unit: str,
    values: Sequence[float],
    target: str = "",
    *,
    ours: float | None = None,
    yardstick: float | None = None,
    peers: Peers | None = None,
    note: str = "",
    void: str = "",
) -> Row:
    """A row of some tries: ``ours`` is their median unless given. ``void``: why the target counts as missed even so."""
    figure = median(values) if ours is None else ours
    met = meets(figure, target)
    return Row(
        measure,
        unit,
        figure,
        target,
        False if void and met is not None else met,
        median(values),
        min(values),
        max(values),
        len(values),
        yardstick,
        figure / yardstick if yardstick else None,
        peers or {},
        "; ".join(each for each in (note, void) if each),
    )


def from_document(raw: Mapping[str, Any]) -> Row:
    """A row as another bench wrote it: what it does not tell is empty, and whether a target is met is told anew."""
    known = {key: raw[key] for key in Row.__dataclass_fields__ if key in raw}
    ours, target = raw.get("ours"), _target(raw.get("target"), str(raw.get("unit", "")))
    known |= {"measure": str(raw.get("measure", "?")), "unit": str(raw.get("unit", "")), "ours": ours, "target": target}
    told = meets(ours, target)
    known["met"] = raw.get("met") if told is None else told
    return Row(**known)


def _target(given: object, unit: str) -> str:
    """A bare number is a limit: upwards for rates (``.../s``) and ratios of speed, else downwards."""
    if given is None or isinstance(given, str):
        return given or ""
    return f"{'>=' if unit.endswith('/s') else '<='} {given}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def number(value: float | None) -> str:
    """A figure for people: three digits that count, thousands parted."""
    if value is None:
        return "-"
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{min(digits, 4)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
