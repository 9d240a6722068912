"""docs/errors.md names every code and every reason, and none that is not there."""

import re
from pathlib import Path

from runyard.core.reasons import RULES, Reason
from runyard.core.scheduling.plan import Wait

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "errors.md"
SERVER = ("core", "manifest", "engine", "api", "adapters", "up", "server.py", "settings.py")
FORMED = {"store_not_found", "store_denied", "store_unreachable"}
"""Codes that are put together from a verdict."""
INNER = {"forbidden"}
"""Shown as ``access_denied``."""


def rows(heading: str) -> dict[str, list[str]]:
    """The rows of the table below a heading: first cell (without its marks) -> the other cells."""
    section = PAGE.read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found: dict[str, list[str]] = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and re.fullmatch(r"`[a-z_]+`", cells[0]):
            assert cells[0] not in found, f"{cells[0]} twice"
            found[cells[0].strip("`")] = cells[1:]
    return found


def codes() -> set[str]:
    """Every code that the server's rooms can answer."""
    found: set[str] = set()
    for room in SERVER:
        place = ROOT / "src" / "runyard" / room
        for path in [place] if place.is_file() else place.rglob("*.py"):
            text = path.read_text()
            found |= set(re.findall(r'\bcode(?::\s*str)? ?= ?"([a-z_]+)"', text))
            found |= set(re.findall(r'problem\(\w+, "([a-z_]+)"', text))
            found |= set(re.findall(r'\d{3}: "([a-z_]+)"[,}]', text))
    return (found | FORMED) - INNER


def test_every_code_is_explained_and_no_other() -> None:
    assert set(rows("Codes")) == codes()


def test_every_reason_is_explained_and_no_other() -> None:
    told = rows("Reasons")
    assert set(told) == {reason.value for reason in Reason}
    for reason in Reason:
        assert told[reason.value][0] == RULES[reason].fault.value, f"whose fault {reason.value} is"


def test_every_readiness_is_explained_and_no_other() -> None:
    assert set(rows("Why a run waits")) == {wait.value for wait in Wait} | {"staging"}


def test_every_row_says_what_to_do() -> None:
    for heading in ("Codes", "Reasons", "Why a run waits"):
        for name, cells in rows(heading).items():
            assert all(cells), f"{heading}: {name} has an empty cell"
            assert len(cells[-1]) > 10, f"{heading}: {name} says too little"
