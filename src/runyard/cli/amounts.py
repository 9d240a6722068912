"""Amounts on the command line: how they are said and shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import click

from runyard.client.access_records import QuotaLimits

UNITS: Final = {
    "": 1,
    "k": 1000,
    "m": 1000**2,
    "g": 1000**3,
    "t": 1000**4,
    "ki": 1024,
    "mi": 1024**2,
    "gi": 1024**3,
    "ti": 1024**4,
}
OPTIONS: Final = {
    "gpus": "gpus",
    "cpus": "cpu_millis",
    "memory": "memory_mib",
    "waiting": "waiting",
    "storage": "storage_bytes",
}
"""Options and the parts of a quota that they set."""
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([kmgt]i?)?b?", re.IGNORECASE)


def parts(said: Mapping[str, str | None]) -> tuple[dict[str, int | None], list[str]]:
    """The parts that options set, and those that are the plan's again."""
    own: dict[str, int | None] = {}
    plan: list[str] = []
    for option, key in OPTIONS.items():
        word = said.get(option)
        if word == "plan":
            plan.append(key)
        elif word is not None:
            own[key] = None if word == "none" else _amount(option, word)
    return own, plan


def _amount(option: str, word: str) -> int:
    found = _SIZE.fullmatch(word)
    if found is None or (option in ("gpus", "waiting") and not word.isdigit()) or (option == "cpus" and found[2]):
        raise click.BadParameter(f"{word!r} is neither an amount nor none.", param_hint=f"--{option}")
    amount = float(found[1]) * UNITS[(found[2] or "").lower()]
    if option == "cpus":
        amount *= 1000
    return round(amount / 1024**2) if option == "memory" else round(amount)


def number_or(option: str, said: str, words: Mapping[str, float | None], what: str, unit: str = "") -> float | None:
    """A number, with or without its unit, or one of the words that stand for one (or for None). ``what``: the number,
    for the error's sentence."""
    if said in words:
        return words[said]
    try:
        return float(said.removesuffix(unit))
    except ValueError:
        *first, last = what, *words
        raise click.BadParameter(f"{said!r} is neither {', '.join(first)} nor {last}.", param_hint=option) from None


def size(amount: int) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount = round(amount / 1024)
    return f"{amount} {unit}"


def limits(found: QuotaLimits) -> str:
    """All limits in a line."""
    said = [
        "" if found.gpus is None else f"{found.gpus} GPUs",
        "" if found.cpu_millis is None else f"{found.cpu_millis / 1000:g} CPUs",
        "" if found.memory_mib is None else f"{size(found.memory_mib * 1024**2)} of memory",
        "" if found.waiting is None else f"{found.waiting} waiting",
        "" if found.storage_bytes is None else f"{size(found.storage_bytes)} stored",
    ]
    return ", ".join(filter(None, said)) or "no limit"
