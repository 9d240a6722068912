"""Whether a command is, beyond doubt, one Python script or module and its words: such a one needs no shell.

The grammar is a small part of bash's (bash(1), QUOTING): words of harmless characters, single quotes, and double
quotes without anything that bash expands in them. All else is answered with what is in the way, and goes to bash.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

INTERPRETERS: Final = ("python", "python3")
_WORD = re.compile(
    r"""(?P<bare>[A-Za-z0-9_./:@%+,=-]+)"""
    r"""|'(?P<single>[^'\0]*)'"""
    r"""|"(?P<double>[^"$`\\\0]*)\""""
)
_BLANK = re.compile(r"[ \t]+")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_IN_THE_WAY: Final = {
    "|": "a pipe",
    "&": "more than one command",
    ";": "more than one command",
    "\n": "more than one line",
    ">": "a redirection",
    "<": "a redirection",
    "$": "something that bash expands",
    "`": "something that bash expands",
    "*": "a pattern of file names",
    "?": "a pattern of file names",
    "[": "a pattern of file names",
    "{": "braces",
    "}": "braces",
    "~": "a home folder",
    "#": "a comment",
    "(": "a subshell",
    ")": "a subshell",
    "!": "a `!`",
    "\\": "a backslash",
}


@dataclass(frozen=True, slots=True)
class PlainCommand:
    """One Python program. ``interpreter``: ``python`` or ``python3``; exactly one of ``script`` (a path that ends in
    ``.py``, as written) and ``module`` (``-m``) is set; ``arguments``: the words after it, as bash would pass them."""

    interpreter: str
    script: str | None
    module: str | None
    arguments: tuple[str, ...]


def read_plain(command: str) -> PlainCommand | str:
    """The program that a command is, or what in it only bash can do: words to follow "it has"."""
    words = _words(command.strip(" \t\n"))
    if isinstance(words, str):
        return words
    if not words or words[0] not in INTERPRETERS:
        return "another program than `python`" if words else "no words"
    rest = words[1:]
    while rest and rest[0] == "-u":
        rest = rest[1:]  # programs are unbuffered anyway
    if len(rest) >= 2 and rest[0] == "-m":
        if _MODULE.fullmatch(rest[1]) is None:
            return "a module of an unusual name"
        return PlainCommand(words[0], None, rest[1], tuple(rest[2:]))
    if not rest:
        return "no script"
    if rest[0].startswith("-"):
        return f"the interpreter's option `{rest[0][:20]}`"
    if not rest[0].endswith(".py"):
        return "a program that does not end in .py"
    return PlainCommand(words[0], rest[0], None, tuple(rest[1:]))


def _words(text: str) -> list[str] | str:
    """The words of a line, or what is in the way."""
    words: list[str] = []
    position = 0
    while position < len(text):
        blank = _BLANK.match(text, position)
        if blank is not None:
            position = blank.end()
        start, parts = position, list[str]()
        while (part := _WORD.match(text, position)) is not None:
            parts.append(part["bare"] or part["single"] or part["double"] or "")
            position = part.end()
        if position < len(text) and text[position] not in " \t":
            return _IN_THE_WAY.get(text[position], "quoting that only bash reads")
        if not words and _ASSIGNMENT.match(text, start):
            return "a variable set before it"
        words.append("".join(parts))
    return words
