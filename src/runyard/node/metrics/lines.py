"""Metrics that are written as lines: the recorder's, and ``evaluation-metrics.txt``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from runyard.node.metrics.gathering import Gathering

LONGEST = 1 << 20
"""Bytes of a line that is read."""

STEPS = ("step", "steps", "global_step", "iteration", "iterations", "iter", "batch", "epoch")
"""What tells the step of a point, the best first."""
TIMES = frozenset({"time", "timestamp", "time_stamp", "datetime", "date"})
"""What tells its time, and is no metric."""


class _Recorded(msgspec.Struct, frozen=True):
    v: dict[str, float]
    t: int = 0
    s: int | None = None
    g: str = ""


_decoder = msgspec.json.Decoder(_Recorded)
_several = msgspec.json.Decoder(list[_Recorded])
_AT_ONCE = 500
"""Lines that are read at once; one that is not plain JSON has these read one by one."""


class Lines:
    """Takes whole lines out of what was read. ``what``: the file, as the user knows it."""

    def __init__(self, what: str, gathering: Gathering) -> None:
        self.gathering = gathering
        self._what = what

    def take(self, data: bytes, *, last: bool) -> int:
        """Read the whole lines of ``data``; returns how many bytes they are. ``last``: nothing follows."""
        end = len(data) if last else data.rfind(b"\n") + 1
        if end == 0 and len(data) >= LONGEST:
            self.gathering.note(f"A line of {self._what} is longer than {LONGEST} bytes: it is left out.")
            return len(data)
        self._read_all(data[:end].split(b"\n"))
        return end

    def _read_all(self, lines: list[bytes]) -> None:
        for line in lines:
            if line.strip() and not self._read(line):
                shown = line[:60].decode("utf-8", "replace").strip()
                self.gathering.note(f"A line of {self._what} is not as it should be, and left out: {shown}")

    def _read(self, line: bytes) -> bool:
        raise NotImplementedError


class Recorded(Lines):
    """What ``runyard.log`` wrote (:mod:`runyard.recorder`)."""

    def _read_all(self, lines: list[bytes]) -> None:
        for begin in range(0, len(lines), _AT_ONCE):
            some = lines[begin : begin + _AT_ONCE]
            try:
                found = _several.decode(b"[" + b",".join(filter(bytes.strip, some)) + b"]")
            except (msgspec.DecodeError, UnicodeDecodeError):
                super()._read_all(some)
            else:
                self._add(found)

    def _add(self, found: list[_Recorded]) -> None:
        """Add lines by column: those of a group and of the same names together."""
        alike: dict[tuple[str, ...], list[_Recorded]] = {}
        for each in found:
            alike.setdefault((each.g, *each.v), []).append(each)
        for (group, *names), lines in alike.items():
            steps, times = [each.s for each in lines], [each.t for each in lines]
            for name in names:
                self.gathering.extend(group, name, steps, times, [each.v[name] for each in lines])

    def _read(self, line: bytes) -> bool:
        try:
            found = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            try:  # NaN and Infinity are words of Python's own JSON alone
                found = msgspec.convert(json.loads(line), _Recorded)
            except (ValueError, RecursionError, msgspec.ValidationError):
                return False
        for name, value in found.v.items():
            self.gathering.add(found.g, name, found.s, found.t, value)
        return True


class Evaluations(Lines):
    """``evaluation-metrics.txt``: JSON lines of FfDL's form, their values texts. ``prefix`` comes before each group."""

    def __init__(self, what: str, gathering: Gathering, prefix: str, now: Callable[[], int]) -> None:
        super().__init__(what, gathering)
        self._prefix = prefix
        self._now = now

    def _read(self, line: bytes) -> bool:
        try:
            found = _object(json.loads(line))
        except (ValueError, RecursionError):
            return False
        values = _object(found.get("values"))
        etimes = _object(found.get("etimes"))
        group = "/".join(filter(None, (self._prefix, str(found.get("grouplabel") or ""))))
        step = _step_of(etimes)
        time_ms = _time_of(_object(found.get("meta")), etimes) or self._now()
        for name, measure in values.items():
            value = _number(measure)
            if value is not None:
                self.gathering.add(group, name, step, time_ms, value)
        return bool(values)


def _object(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _number(measure: object) -> float | None:
    """A measure's value: a text with a type beside it (2: integer, 3: float), or a number as it is."""
    return to_float(_object(measure).get("value", measure))


def to_float(value: object) -> float | None:
    """A number, or a text that is one; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def to_step(value: object) -> int | None:
    """A whole number, or a text that is one; None for anything else."""
    number = to_float(value)
    return int(number) if number is not None and number.is_integer() else None


def _step_of(etimes: Mapping[str, Any]) -> int | None:
    told = {name.lower(): _object(measure).get("value", measure) for name, measure in etimes.items()}
    for name in (*STEPS, *(name for name in told if name not in TIMES)):
        if name in told and (step := to_step(told[name])) is not None:
            return step
    return None


def _time_of(meta: Mapping[str, Any], etimes: Mapping[str, Any]) -> int | None:
    told = meta.get("time")
    if isinstance(told, int | float) and 0 < told < 1e15:
        return int(told)
    for name, measure in etimes.items():
        if name.lower() in TIMES and (moment := to_moment(_object(measure).get("value", measure))) is not None:
            return moment
    return None


def to_moment(value: object) -> int | None:
    """Milliseconds since 1970 of an ISO 8601 time (UTC where it has no zone), None for anything else."""
    if not isinstance(value, str) or len(value) > 64:
        return None
    try:
        moment = datetime.fromisoformat(value.replace(",", "."))
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        return None
