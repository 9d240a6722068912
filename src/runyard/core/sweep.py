"""Sweeps: lists and ranges of hyper-parameter values, and the runs that they make."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from runyard.core.spec import Scalar

MAX_RUNS: Final = 10_000
"""How many runs one sweep may make unless the caller says otherwise."""

HYPER_PARAMETER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
"""What the name of a hyper-parameter looks like (the whole of it)."""

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_RANGE = re.compile(rf"(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER})(?::(?P<points>[^:]*))?(?::(?P<scale>[^:]*))?")
_ITEM = re.compile(
    r"""\s*+(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"',][^,]*)?)\s*(?:,|\Z)""", re.S
)
_WORDS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DIGITS = 14
_WHOLE = 10**12  # below it, a point of so many digits that looks whole is whole


@dataclass(frozen=True, slots=True)
class Axis:
    """A hyper-parameter and the values it takes in a sweep, in their order."""

    name: str
    values: tuple[Scalar, ...]


def parse_scalar(text: str) -> Scalar:
    """Read an unquoted value: whole numbers, decimal numbers, ``true`` and ``false``; all else stays text.

    Numbers are decimal; what begins with a needless zero (``007``) is text. Raises ``ValueError`` for a number beyond
    64 bits, or beyond the range of a double.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
            raise ValueError("A whole number needs more than 64 bits: quote it to keep it as text.")
        return int(text)
    if _DECIMAL.fullmatch(text):
        if not math.isfinite(number := float(text)):
            raise ValueError("A number is too large for a double: quote it to keep it as text.")
        return number
    return text


def parse_set(text: str, *, limit: int = MAX_RUNS) -> Axis:
    """Read ``name=v1,v2,...``, where each value may be a range ``low..high:N[:log]`` of N points, ends included.

    Quoted values (``"a,b"`` with backslash escapes, ``'a,b'`` without any) stay text. The points of a range are whole
    numbers when both ends are and every point is. At most ``limit`` values. Raises ``ValueError``.
    """
    name, equals, rest = text.partition("=")
    name = name.strip()
    if not equals:
        raise ValueError(f"`{text}` sets nothing: write name=value, for example lr=0.1,0.01.")
    if not HYPER_PARAMETER.fullmatch(name):
        raise ValueError(
            f"`{name}` is no name of a hyper-parameter: use letters, digits, `_`, `.` and `-`, and begin with a letter."
        )
    values: list[Scalar] = []
    for word, quoted in _items(name, rest):
        values.extend((word,) if quoted else _values(name, word, limit))
        if len(values) > limit:
            raise ValueError(f"`{name}` takes more than {limit} values: ask for fewer.")
    return Axis(name, tuple(values))


def expand(axes: Sequence[Axis], *, zipped: bool, limit: int = MAX_RUNS) -> tuple[dict[str, Scalar], ...]:
    """Make the hyper-parameters of each run: all combinations, the last axis fastest, or ``zipped`` pairwise.

    No axes make one run without any. Raises ``ValueError`` for a name set twice, an axis without values, axes of
    different lengths to be zipped, and more than ``limit`` runs.
    """
    names = [axis.name for axis in axes]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"`{name}` is set twice: give all its values in one --set.")
    for axis in axes:
        if not axis.values:
            raise ValueError(f"`{axis.name}` has no value.")
    if zipped and len({len(axis.values) for axis in axes}) > 1:
        lengths = ", ".join(f"{axis.name} has {len(axis.values)}" for axis in axes)
        raise ValueError(f"--zip pairs values one by one, so all need equally many: {lengths}.")
    lists = [axis.values for axis in axes]
    count = min(map(len, lists), default=1) if zipped else math.prod(map(len, lists))
    if count > limit:
        raise ValueError(f"The sweep makes {count} runs, and {limit} are allowed at once: narrow it.")
    rows = zip(*lists, strict=True) if zipped and lists else itertools.product(*lists)
    return tuple(dict(zip(names, row, strict=True)) for row in rows)


def _items(name: str, text: str) -> list[tuple[str, bool]]:
    """Split at commas outside quotes into (text, whether it was quoted)."""
    items: list[tuple[str, bool]] = []
    position = 0
    while position <= len(text):
        match = _ITEM.match(text, position)
        if match is None:
            raise ValueError(f"`{name}` has a quote that is not closed, or text after a closed one.")
        if (quoted := match["double"]) is not None:
            items.append((re.sub(r"\\(.)", r"\1", quoted, flags=re.S), True))
        elif (quoted := match["single"]) is not None:
            items.append((quoted, True))
        elif match["bare"] is None or not match["bare"].strip():
            raise ValueError(f'`{name}` has an empty value: write "" where an empty text is meant.')
        else:
            items.append((match["bare"].strip(), False))
        position = match.end() + (0 if match[0].endswith(",") else 1)
    return items


def _values(name: str, word: str, limit: int) -> tuple[Scalar, ...]:
    match = _RANGE.fullmatch(word)
    try:
        return (parse_scalar(word),) if match is None else _range(match, limit)
    except ValueError as error:
        raise ValueError(f"`{name}`: {error}") from None


def _range(match: re.Match[str], limit: int) -> tuple[Scalar, ...]:
    low, high, log = _end(match["low"]), _end(match["high"]), match["scale"] == "log"
    points = match["points"] or ""
    if not re.fullmatch(r"[0-9]{1,9}", points):
        raise ValueError(f"a range needs its number of points: write {match['low']}..{match['high']}:5.")
    if match["scale"] not in (None, "log"):
        raise ValueError("a range ends in its number of points, or in `:log` after it.")
    if (count := int(points)) > limit:
        raise ValueError(f"a range of {count} points is more than the {limit} allowed.")
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("an end of a range is too large for a double.")
    if low == high or count < 2:
        raise ValueError("a range needs two ends that differ and at least 2 points.")
    if log and min(low, high) <= 0:
        raise ValueError("both ends of a logarithmic range must be above zero.")
    inner = [_point(low, high, index / (count - 1), log) for index in range(1, count - 1)]
    if len({low, *inner, high}) < count:
        raise ValueError("the ends of a range are too near each other for so many points.")
    whole = isinstance(low, int) and isinstance(high, int)
    if whole and not log and (whole := (high - low) % (count - 1) == 0):
        step = (high - low) // (count - 1)
        return tuple(range(int(low), int(high) + (1 if step > 0 else -1), int(step)))
    whole = whole and all(point.is_integer() and point < _WHOLE for point in inner)
    return tuple(int(value) if whole else float(value) for value in (low, *inner, high))


def _end(text: str) -> int | float:
    return int(text) if re.fullmatch(r"[-+]?[0-9]{1,18}", text) else float(text)


def _point(low: float, high: float, part: float, log: bool) -> float:
    """The point at ``part`` of a range, without the noise of binary fractions: 0.3, not 0.30000000000000004."""
    if log:
        value = math.exp(math.log(low) * (1 - part) + math.log(high) * part)
    else:
        value = low * (1 - part) + high * part
    return float(f"{value:.{_DIGITS}g}")
