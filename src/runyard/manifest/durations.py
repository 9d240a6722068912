"""Durations and sizes as people write them."""

from __future__ import annotations

import re
from typing import Final

from runyard.core.errors import ManifestError, Problem

_PART = r"[0-9]{1,12}(?:\.[0-9]{1,6})?"
_DURATION = re.compile(rf"(?:{_PART}(?:ms|s|m|h|d))+", re.ASCII)
_PARTS = re.compile(rf"({_PART})(ms|s|m|h|d)", re.ASCII)
_SECONDS = re.compile(_PART)
_SIZE = re.compile(rf"({_PART})\s*([A-Za-z]+)", re.ASCII)
_UNIT_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PREFIXES = "kmgt"
MAX_DURATION_MS: Final = 3650 * _UNIT_MS["d"]
MAX_SIZE_MIB: Final = 1 << 30
MIB: Final = 1 << 20


def parse(value: str | float, path: str = "") -> int:
    """Milliseconds of a duration: ``2h``, ``1h30m``, ``30s``, ``500ms``, ``1d``, or a number of seconds. ``path``:
    where it stands in a manifest.

    Raises :class:`ManifestError` with one problem for anything else, and for more than ten years.
    """
    text = value.strip() if isinstance(value, str) else f"{value:.6f}"
    if _SECONDS.fullmatch(text):
        text += "s"
    if not _DURATION.fullmatch(text):
        raise _unreadable("This is no duration: write 2h, 1h30m, 30s, or a number of seconds.", path)
    total = sum(_scaled(number, _UNIT_MS[unit]) for number, unit in _PARTS.findall(text))
    if total > MAX_DURATION_MS:
        raise _unreadable("A duration has at most 3650 days.", path)
    return total


def parse_size(text: str) -> int:
    """MiB of a size, rounded up: kb, Mb, GB, Tb count in thousands, KiB, MiB, GiB, TiB (or Ki, Mi, ...) in 1024s.

    The case of the letters does not matter. Raises :class:`ManifestError` with one problem for anything else.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = match[2].lower() if match is not None else ""
    base = 1024 if unit[1:] in ("i", "ib") else 1000
    if match is None or unit[:1] not in _PREFIXES or unit[1:] not in ("", "b", "i", "ib"):
        raise _unreadable("This is no size: write it with its unit, such as 512MiB, 2GB or 1Gb.")
    mib = -(-_scaled(match[1], base ** (1 + _PREFIXES.index(unit[0]))) // MIB)
    if mib > MAX_SIZE_MIB:
        raise _unreadable("A size has at most 1024 TiB.")
    return mib


def _scaled(number: str, unit: int) -> int:
    """``number`` times ``unit``, rounded up, without a float's rounding."""
    whole, _, fraction = number.partition(".")
    return int(whole) * unit + -(-int(fraction or 0) * unit // 10 ** len(fraction))


def _unreadable(sentence: str, path: str = "") -> ManifestError:
    return ManifestError((Problem(sentence, 0, path),))
