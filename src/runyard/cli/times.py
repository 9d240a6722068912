"""Times and amounts for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from runyard.client.errors import Misuse
from runyard.client.records import Run

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


def span(seconds: float) -> str:
    """A duration, its two largest parts: ``850 ms``, ``12 s``, ``3 m 20 s``, ``2 h 5 m``, ``4 d 1 h``."""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    whole = round(seconds)
    for large, small, size, unit in (("d", "h", 86400, 3600), ("h", "m", 3600, 60), ("m", "s", 60, 1)):
        if whole >= size:
            rest = whole % size // unit
            return f"{whole // size} {large} {rest} {small}" if rest else f"{whole // size} {large}"
    return f"{whole} s"


def age(moment: datetime | None) -> str:
    """How long ago."""
    return "" if moment is None else span((now() - moment).total_seconds())


def duration(run: Run) -> str:
    """How long a run's program has run, over all that we know; empty before its start."""
    if run.started_at is None:
        return ""
    return span(((run.finished_at or now()) - run.started_at).total_seconds())


def local(moment: datetime | None) -> str:
    """A time of day in the local zone, to the second."""
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def since(text: str) -> str:
    """What the service takes for ``--since``: an ISO time as it is, ``90``, ``10m`` or ``2h`` as seconds ago."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS else (text, "s")
    try:
        return str(int(float(number) * UNITS[unit]))
    except ValueError:
        pass
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise Misuse(f"{text!r} is no time: write 10m, 2h, or 2026-01-31T12:00:00Z.") from None
    return text


def instant(text: str) -> str:
    """A time for a query as ISO 8601: one that is, or ``7d`` ago."""
    seconds = since(text)
    return (now() - timedelta(seconds=int(seconds))).isoformat() if seconds.isdigit() else seconds


def money(cost: str) -> str:
    """A cost without needless zeros, empty for nothing."""
    shown = cost.rstrip("0").rstrip(".") if "." in cost else cost
    return "" if shown in ("", "0", "-0") else shown
