"""Start windows: the hours of a day in which an account's runs may start."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 86_400_000
_WINDOW: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)(?: ?([+-])(0\d|1[0-4]):([0-5]\d))?")
FORM: Final = "HH:MM-HH:MM in UTC, or with an offset, such as 22:00-06:00+01:00"


@dataclass(frozen=True, slots=True)
class DailyWindow:
    """From ``begin_ms`` to ``end_ms`` after 00:00 UTC; over midnight where the end is not after the begin."""

    begin_ms: int
    end_ms: int


def parse(text: str) -> DailyWindow:
    """Read a window. Raises ``ValueError`` with a sentence."""
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no start window: write {FORM}.")
    begin, end = (int(match[i]) * 60 + int(match[i + 1]) for i in (1, 3))
    if begin == end:
        raise ValueError("A start window that ends when it begins is none: leave it out, or write other times.")
    offset = (int(match[6]) * 60 + int(match[7])) * (1 if match[5] == "+" else -1) if match[5] else 0
    return DailyWindow((begin - offset) * _MINUTE_MS % _DAY_MS, (end - offset) * _MINUTE_MS % _DAY_MS)


def opens_ms(window: DailyWindow, now_ms: int) -> int:
    """When the window opens next; 0 while it is open."""
    time = now_ms % _DAY_MS
    if (time - window.begin_ms) % _DAY_MS < (window.end_ms - window.begin_ms) % _DAY_MS:
        return 0
    return now_ms + (window.begin_ms - time) % _DAY_MS
