"""What reading a manifest found: problems with line and path, and notes on keys without effect."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from runyard.core.errors import ManifestError, Problem

MAX_PROBLEMS: Final = 50
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


@dataclass(slots=True)
class Findings:
    """Problems and notes, in the order in which they were found."""

    problems: list[Problem] = field(default_factory=list[Problem])
    notes: list[str] = field(default_factory=list[str])

    @property
    def full(self) -> bool:
        """Whether more problems would only bury those that were found."""
        return len(self.problems) >= MAX_PROBLEMS

    def add(self, message: str, line: int, path: str) -> None:
        problem = Problem(message, line, path)
        if not self.full and problem not in self.problems:
            self.problems.append(problem)

    def check(self) -> None:
        """Raise :class:`ManifestError` if there is any problem."""
        if self.problems:
            raise ManifestError(tuple(sorted(self.problems, key=lambda problem: problem.line)))


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a manifest. ``private`` where a secret may stand: then no message repeats what is written there."""

    findings: Findings
    path: str = ""
    line: int = 0
    private: bool = False

    def say(self, message: str) -> None:
        """Report a problem here."""
        self.findings.add(message, self.line, self.path)

    def key(self, name: str, line: int, *, private: bool = False) -> Place:
        path = f"{self.path}.{name}" if self.path else name
        return Place(self.findings, path, line, self.private or private)

    def item(self, index: int, line: int) -> Place:
        return Place(self.findings, f"{self.path}[{index}]", line, self.private)

    def shown(self, text: str, instead: str = "this") -> str:
        """``text`` in back-quotes if it may be repeated in a message: a short word where no secret stands."""
        return f"`{text}`" if not self.private and _NAME.fullmatch(text) else instead


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that ``word`` is probably meant to be."""
    folded = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word[:64].lower(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def suggestion(word: str, known: Iterable[str], listed: Iterable[str] | None = None) -> str:
    """End a sentence about an unknown ``word``: the nearest known one, or else all that are ``listed``."""
    names = tuple(known)
    found = nearest(word, names)
    return f"did you mean `{found}`?" if found else f"known here: {', '.join(sorted(listed or names))}."
