"""A run's command: placeholders for hyper-parameters, filled so that bash reads each value as it is."""

from __future__ import annotations

import re
import shlex
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from runyard.core.spec import Scalar

# `{name}`, unless it is bash's own `${name}` or a doubled brace.
_HOLE = r"(?<![${])\{(?P<hole>[A-Za-z_][A-Za-z0-9_.-]*)\}"
_HOLES = re.compile(_HOLE)
_BARE = re.compile(
    r"(?P<skip>\\.)"
    r"|(?P<ansi>\$'(?:[^'\\]|\\.)*'?)"
    r"|(?P<single>'[^']*'?)"
    r"|(?P<open>\$?\()"
    r"|(?P<close>\))"
    r'|(?P<double>\$?")'
    r"|(?P<tick>`)"
    r"|(?P<comment>(?<![^\s;|&()])#[^\n]*)"
    r"|(?P<here>(?<!<)<<(?!<)(?P<tabs>-?)[ \t]*(?P<word>'[^'\n]*'|\"[^\"\n]*\"|[^\s'\";&|<>()]+))"
    r"|(?P<line>\n)"
    rf"|{_HOLE}",
    re.S,
)
_DOUBLE = re.compile(
    rf'(?P<skip>\\.)|(?P<open>\$\()|(?P<brace>\$\{{)|(?P<unbrace>\}})|(?P<double>")|(?P<tick>`)|{_HOLE}', re.S
)


_CHOOSY = frozenset({"here", "raw", "expansion"})
"""Quotings that not every value can be written in."""
_NEGATIVE = re.compile(r"-[0-9]+|-[0-9]*\.[0-9]+", re.ASCII)
"""What argparse takes for a negative number, and so for a value: ``-1e-05`` is none to it."""


@dataclass(frozen=True, slots=True)
class _Spot:
    """A ``{name}`` in a command, the quoting it stands in, and whether a backtick substitution is around it."""

    start: int
    end: int
    name: str
    quoting: str
    ticked: bool


@dataclass(frozen=True, slots=True)
class _Body:
    """What stands in a here-document, and the line that ends it: whether tabs before that are dropped, and whether a
    parenthesis is open around it."""

    delimiter: str
    tabs: bool
    nested: bool
    start: int
    end: int

    def is_ended_by(self, line: str) -> bool:
        """Whether bash takes a line for the end. In a ``$(...)`` what follows it may hold the parenthesis."""
        line = line.lstrip("\t") if self.tabs else line
        if not line.startswith(self.delimiter):
            return False
        rest = line[len(self.delimiter) :]
        return not rest or (self.nested and ")" in rest)


@dataclass(slots=True)
class _Scan:
    """A walk over a bash command that knows at each place what quoting holds.

    ``stack`` has an entry for each open ``"``, ``(`` (also of ``$(``), backtick, and ``${`` between double quotes. A
    ``case`` pattern's ``)`` inside ``$(...)`` is taken for its end; that matters only to later values that need
    quoting at all.
    """

    command: str
    spots: list[_Spot] = field(default_factory=list[_Spot])
    stack: list[str] = field(default_factory=list[str])
    documents: list[tuple[str, bool, bool]] = field(default_factory=list[tuple[str, bool, bool]])
    lines: dict[tuple[str, bool], list[tuple[int, int]]] = field(
        default_factory=dict[tuple[str, bool], list[tuple[int, int]]]
    )
    ticks: int = 0
    bodies: list[_Body] = field(default_factory=list["_Body"])
    tail: str = ""  # the quoting that the command's last character stands in, if it is not the command itself

    def run(self) -> _Scan:
        position = 0
        while True:
            quoting = {'"': "double", "{": "expansion"}.get(self.stack[-1] if self.stack else "", "bare")
            match = (_BARE if quoting == "bare" else _DOUBLE).search(self.command, position)
            if match is None:
                break
            position = self._step(match, quoting)
        if '"' in self.stack or "`" in self.stack:
            self.tail = "quote"
        return self

    def _step(self, match: re.Match[str], quoting: str) -> int:
        """Take one token; return where the next may begin."""
        kind = match.lastgroup
        if kind == "hole":
            self._spot(match, quoting)
        elif kind in ("single", "ansi", "comment"):
            self._leaf(kind, match.start(), match.end())
        elif kind == "here":
            self._document(match)
        elif kind == "line":
            return self._bodies(match.end())
        elif kind != "skip":
            self._nest(str(kind))
        return match.end()

    def _nest(self, kind: str) -> None:
        opener = {"open": "(", "brace": "{", "double": '"', "tick": "`"}.get(kind, "")
        closed = {"close": "(", "unbrace": "{", "double": '"'}.get(kind)
        if kind == "tick" and self.ticks:
            self.ticks = 0
            while self.stack.pop() != "`":
                pass
        elif self.stack and self.stack[-1] == closed:
            self.stack.pop()
        elif opener:
            self.ticks += kind == "tick"
            self.stack.append(opener)

    def _spot(self, match: re.Match[str], quoting: str) -> None:
        self.spots.append(_Spot(match.start(), match.end(), match["hole"], quoting, self.ticks > 0))

    def _leaf(self, quoting: str, start: int, end: int) -> None:
        for match in _HOLES.finditer(self.command, start, end):
            self._spot(match, quoting)
        opened = {"single": 1, "ansi": 2}.get(quoting)
        closed = opened is not None and end - start > opened and self.command[end - 1] == "'"
        if end == len(self.command) and not closed:
            self.tail = "comment" if quoting == "comment" else "quote"

    def _document(self, match: re.Match[str]) -> None:
        """Note a here-document: its delimiter, whether the body is raw, whether leading tabs are dropped."""
        word = match["word"]
        delimiter = re.sub(r"['\"\\]", "", word)
        self.documents.append((delimiter, delimiter != word, bool(match["tabs"])))

    def _bodies(self, position: int) -> int:
        """Walk the bodies of the here-documents of the line that ends before ``position``; return where they end."""
        for delimiter, raw, tabs in self.documents:
            last = self._line(delimiter, tabs, position)
            if last is None:  # a shift in arithmetic, or bash will complain itself
                continue
            self._leaf("raw" if raw else "here", position, last[0])
            self.bodies.append(_Body(delimiter, tabs, "(" in self.stack, position, last[0]))
            position = last[1]
            self.tail = "document" if position == len(self.command) else ""
        self.documents.clear()
        return position

    def _line(self, text: str, tabs: bool, position: int) -> tuple[int, int] | None:
        """Start and end of the first line from ``position`` on that is ``text``, after any tabs if ``tabs``."""
        if not self.lines:
            for match in re.finditer(r"^(\t*)(.*)$", self.command, re.M):
                self.lines.setdefault((match[0], False), []).append(match.span())
                self.lines.setdefault((match[2], True), []).append(match.span())
        spans = self.lines.get((text, tabs), [])
        index = bisect_left(spans, (position, 0))
        return spans[index] if index < len(spans) else None


def placeholders(command: str, names: Collection[str]) -> frozenset[str]:
    """The hyper-parameters of ``names`` that the command asks for as ``{name}``.

    ``${name}`` is a variable of bash, ``{{name}}`` and ``\\{name}`` are left as they are.
    """
    return frozenset(spot.name for spot in _Scan(command).run().spots if spot.name in names)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of a here-document with placeholders, and what is written around them."""

    parts: tuple[str | _Spot, ...]
    body: _Body

    def check(self, parameters: Mapping[str, Scalar]) -> None:
        """Raise ``ValueError`` where it would end its document once it is filled."""
        line = "".join(part if isinstance(part, str) else _written(part, parameters) for part in self.parts)
        if self.body.is_ended_by(line):
            name = next(part.name for part in self.parts if not isinstance(part, str))
            raise ValueError(
                f"`{name}` makes the line that ends its here-document ({self.body.delimiter}): give that another end."
            )


def _written(spot: _Spot, parameters: Mapping[str, Scalar]) -> str:
    if spot.name not in parameters:
        return f"{{{spot.name}}}"
    return _encoded(spot, scalar_text(parameters[spot.name]))


def _lines(scan: _Scan) -> Iterator[_Line]:
    """The lines of here-documents that have placeholders."""
    command, spots, number = scan.command, scan.spots, 0
    for body in scan.bodies:
        while number < len(spots) and spots[number].start < body.start:
            number += 1
        while number < len(spots) and spots[number].start < body.end:
            begin = max(body.start, command.rfind("\n", 0, spots[number].start) + 1)
            end, parts = command.find("\n", spots[number].end), list[str | _Spot]()
            while number < len(spots) and spots[number].start < end:
                parts += command[begin : spots[number].start], spots[number]
                begin, number = spots[number].end, number + 1
            yield _Line((*parts, command[begin:end]), body)


class Filling:
    """A command that was read once, to be filled with the hyper-parameters of any number of runs; see :func:`fill`."""

    def __init__(self, command: str, *, append_args: bool) -> None:
        self._command = _open_ended(command) if append_args else command
        self._append_args = append_args
        scan = _Scan(self._command).run()
        self._spots = tuple(scan.spots)
        self._lines = tuple(_lines(scan))
        self._choosy = tuple(spot for spot in self._spots if spot.ticked or spot.quoting in _CHOOSY)

    def check(self, parameters: Mapping[str, Scalar]) -> None:
        """Raise what :meth:`fill` would, at a fraction of the cost."""
        for name, value in parameters.items():
            if isinstance(value, str) and "\0" in value:
                raise ValueError(f"`{name}` holds a NUL character, which no command can be given.")
        for spot in self._choosy:
            if spot.name in parameters:
                _encoded(spot, scalar_text(parameters[spot.name]))
        for line in self._lines:
            line.check(parameters)

    def fill(self, parameters: Mapping[str, Scalar]) -> str:
        """The command with the values of one run in it. Raises ``ValueError`` where one cannot be written."""
        self.check(parameters)
        texts = {name: scalar_text(value) for name, value in parameters.items()}
        parts: list[str] = []
        position = 0
        for spot in self._spots:
            if spot.name in texts:
                parts += self._command[position : spot.start], _encoded(spot, texts[spot.name])
                position = spot.end
        arguments = (" " + _argument(name, text) for name, text in texts.items()) if self._append_args else ()
        return "".join(parts) + self._command[position:] + "".join(arguments)


def fill(command: str, parameters: Mapping[str, Scalar], *, append_args: bool) -> str:
    """Replace each ``{name}`` by its value, and with ``append_args`` add ``--name value`` for every parameter
    (``--name=value`` where the value begins with a dash and is no plain negative number).

    A value reaches the program as written, whatever is in it, inside and outside of quotes; floats in their shortest
    form (0.1 stays 0.1), booleans as ``true`` and ``false``. The arguments are put at the very end: in
    ``prepare; python train.py`` and ``python train.py | tee log`` the last command gets them, so a command of several
    parts should use placeholders. Raises ``ValueError`` where a value cannot be written, or arguments not be added.
    """
    return Filling(command, append_args=append_args).fill(parameters)


def _argument(name: str, text: str) -> str:
    """A hyper-parameter as an argument: ``--name value``, or ``--name=value`` for what would be taken for an option."""
    taken_for_option = text.startswith("-") and _NEGATIVE.fullmatch(text) is None
    return f"--{name}{'=' if taken_for_option else ' '}{shlex.quote(text)}"


def scalar_text(value: Scalar) -> str:
    """The value of a hyper-parameter as a program's argument."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def identical_runs_refusal(
    command: str, names: Collection[str], runs: int, append_args: bool, mentions_config: bool | None
) -> str | None:
    """Say why a sweep over ``names`` would be ``runs`` identical runs, or None where it would not.

    ``mentions_config`` tells whether any file of the code holds ``config.json``, None when nobody looked.
    """
    if runs < 2 or not names or append_args or mentions_config is not False or placeholders(command, names):
        return None
    first = sorted(names)[0]
    return (
        f"These {runs} runs would be identical: the command has no placeholder such as {{{first}}}, and the code never "
        f"mentions config.json. Write {{{first}}} in the command, add --args to append the values as --name value, "
        "or read config.json; --force submits them all the same."
    )


def _open_ended(command: str) -> str:
    """The command, trimmed so that arguments added to it reach its last program. Raises ``ValueError``."""
    command = _trimmed(command)
    tail = _Scan(command).run().tail
    if tail or (command.endswith(("&", "|", ";")) and not _escapes(command[:-1])):
        what = {"comment": "a comment", "quote": "an open quote", "document": "a here-document"}.get(tail)
        raise ValueError(
            f"The command ends in {what or f'`{command[-1]}`'}, so that --args has nothing to add to: end it with the "
            "program, or use placeholders such as {name}."
        )
    return command


def _trimmed(command: str) -> str:
    """The command without white space and line continuations at its end."""
    while True:
        shorter = command.rstrip()
        if not _escapes(shorter):
            return shorter
        if not command.startswith("\n", len(shorter)):
            return command[: len(shorter) + 1]  # an escaped space is part of a word
        command = shorter[:-1]


def _escapes(text: str) -> bool:
    """Whether a backslash at the end of ``text`` escapes what comes behind it."""
    return (len(text) - len(text.rstrip("\\"))) % 2 == 1


def _escaped(text: str, marks: Iterable[str]) -> str:
    return re.sub("[" + re.escape("".join(marks)) + "]", lambda match: "\\" + match[0], text)


def _encoded(spot: _Spot, text: str) -> str:
    """Write ``text`` for the quoting of ``spot``."""
    if spot.quoting in ("here", "raw") and "\n" in text:
        raise ValueError(f"`{spot.name}` holds a line break, which cannot be put into a here-document.")
    if spot.quoting == "raw" and "\x01" in text:  # bash 5.2 loses it there inside of $(...)
        raise ValueError(f"`{spot.name}` holds the character U+0001, which bash loses in a here-document.")
    if spot.quoting == "expansion" and shlex.quote(text) != text:
        raise ValueError(f"`{spot.name}` cannot be put into a ${{...}} between quotes: give it to a variable first.")
    if spot.ticked and shlex.quote(text) != text:
        raise ValueError(f"`{spot.name}` cannot be put between backticks: write $(...) in their place.")
    match spot.quoting:
        case "bare":
            text = shlex.quote(text)
        case "single":
            text = text.replace("'", "'\\''")
        case "double":
            text = _escaped(text, '\\"$`')
        case "ansi":
            text = _escaped(text, "\\'")
        case "here":
            text = _escaped(text, "\\$`")
        case "comment":
            text = " ".join(text.splitlines())
        case _:
            pass
    return text
