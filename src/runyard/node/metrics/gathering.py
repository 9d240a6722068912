"""Points on their way from the sources of an attempt into one block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runyard.core.metrics import NO_STEP, Series, empty_series

MOST_SERIES = 1000
MOST_POINTS = 20_000_000
LONGEST_NAME = 256
MOST_NOTES = 50
_LATEST_MS = 253_402_300_799_999
"""The end of the year 9999: what a program says of later times is not believed."""
_LARGEST_STEP = (1 << 63) - 1

MANY_SERIES = f"There are more than {MOST_SERIES} metrics: only the first {MOST_SERIES} are kept."
MANY_POINTS = f"There are more than {MOST_POINTS} points of metrics: only the first {MOST_POINTS} are kept."


def clean(text: str) -> str:
    """A name as it can be kept anywhere: no control characters, no half characters."""
    if text.isascii() and text.isprintable():
        return text
    whole = text.encode("utf-8", "replace").decode()
    return "".join(each if each.isprintable() else "?" for each in whole)


class Gathering:
    """What was read and is in no block yet; and what keeps a program from filling the disk with its metrics.

    ``known``: the metrics that are in blocks already, ``points``: how many points are, ``noted``: which notes.
    """

    def __init__(self, known: Iterable[tuple[str, str]] = (), points: int = 0, noted: Iterable[str] = ()) -> None:
        self._known = set(known)
        self._points = points
        self._noted = set(noted)
        self._series: dict[tuple[str, str], Series] = {}
        self._notes: list[str] = []
        self.fresh = 0
        """Points that are in no block yet."""

    def add(self, group: str, name: str, step: int | None, time_ms: int, value: float) -> None:
        """A point was found."""
        series = self._series.get((group, name)) or self._series_of(group, name)
        if series is None:
            return
        if self._points >= MOST_POINTS:
            self.note(MANY_POINTS)
            return
        self._points += 1
        self.fresh += 1
        series.steps.append(NO_STEP if step is None or not -_LARGEST_STEP <= step <= _LARGEST_STEP else step)
        series.times.append(min(max(time_ms, 0), _LATEST_MS))
        series.values.append(value)

    def extend(
        self, group: str, name: str, steps: Sequence[int | None], times_ms: Sequence[int], values: Sequence[float]
    ) -> None:
        """Points of one metric were found: columns of one length."""
        series = self._series.get((group, name)) or self._series_of(group, name)
        if series is None:
            return
        room = max(0, MOST_POINTS - self._points)
        if len(values) > room:
            self.note(MANY_POINTS)
            steps, times_ms, values = steps[:room], times_ms[:room], values[:room]
        self._points += len(values)
        self.fresh += len(values)
        series.steps.extend(
            NO_STEP if step is None or not -_LARGEST_STEP <= step <= _LARGEST_STEP else step for step in steps
        )
        if times_ms and (min(times_ms) < 0 or max(times_ms) > _LATEST_MS):
            times_ms = [min(max(time_ms, 0), _LATEST_MS) for time_ms in times_ms]
        series.times.extend(times_ms)
        series.values.extend(values)

    def _series_of(self, group: str, name: str) -> Series | None:
        key = clean(group), clean(name)
        if max(map(len, key)) > LONGEST_NAME or not key[1]:
            self.note(f"A metric's name has 1 to {LONGEST_NAME} characters: {key[1][:40]!r} is left out.")
            return None
        if key not in self._known:
            if len(self._known) >= MOST_SERIES:
                self.note(MANY_SERIES)
                return None
            self._known.add(key)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = empty_series(*key)
        return series

    def note(self, sentence: str) -> None:
        """Tell the user something, once for each attempt."""
        sentence = clean(sentence)
        if sentence not in self._noted and len(self._noted) < MOST_NOTES:
            self._noted.add(sentence)
            self._notes.append(sentence)

    def take(self) -> tuple[list[Series], list[str]]:
        """Everything since the last time."""
        taken = list(self._series.values()), self._notes
        self._series, self._notes, self.fresh = {}, [], 0
        return taken
