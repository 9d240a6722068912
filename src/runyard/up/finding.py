"""One thing that ``doctor`` looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``level``: ok, note (works, with less), or bad (must be mended)."""

    what: str
    level: str
    text: str
