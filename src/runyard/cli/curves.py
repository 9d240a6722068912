"""Curves and numbers of metrics, for a cell of a table."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

BLOCKS: Final = "▁▂▃▄▅▆▇█"
PLAIN: Final = "_.-~=+*#"


def curve(values: Sequence[float], width: int) -> str:
    """A small picture of a series, at most ``width`` characters: its lowest and highest value reach from floor to
    ceiling; where nothing was finite there is a gap."""
    stretches = _stretches(values, width)
    finite = [each for each in stretches if each is not None]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    blocks = BLOCKS if _can_show(BLOCKS) else PLAIN
    return "".join(" " if each is None else blocks[_level(each, low, high)] for each in stretches)


def _stretches(values: Sequence[float], width: int) -> list[float | None]:
    """The means of ``width`` equal stretches, or each value where they are fewer."""
    count = min(width, len(values))
    bounds = [len(values) * number // count for number in range(count + 1)] if count else [0]
    found: list[float | None] = []
    for begin, end in pairwise(bounds):
        finite = [value for value in values[begin:end] if math.isfinite(value)]
        # Each is divided first: the sum of large numbers may not be finite.
        found.append(sum(value / len(finite) for value in finite) if finite else None)
    return found


def _level(value: float, low: float, high: float) -> int:
    if high <= low:
        return len(BLOCKS) // 2 - 1
    share = (value / 2 - low / 2) / (high / 2 - low / 2)
    return min(len(BLOCKS) - 1, int(share * len(BLOCKS)))


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def value_text(value: float | None) -> str:
    """A value for people, five digits of it: ``0.98133``, ``1.2e-05``, or all of a whole number; empty for None."""
    if value is None:
        return ""
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e9 else f"{value:.5g}"
