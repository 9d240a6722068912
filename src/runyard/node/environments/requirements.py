"""``requirements.txt``, read before pip sees it: names and versions only, for everything else would make pip execute or
fetch what the operator has not allowed (the format: pip.pypa.io/en/stable/reference/requirements-file-format)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement

from runyard.node.environments.faults import EnvironmentFault

NAME = "requirements.txt"
LIMIT = 256 * 1024

_COMMENT = re.compile(r"(^|\s+)#.*$")
_HASH = re.compile(r"\s--hash[= ]([a-z0-9]+:[0-9a-fA-F]+)(?=\s|$)")
_IGNORED = re.compile(
    r"(-i|-f|--index-url|--extra-index-url|--find-links|--no-index|--trusted-host|--pre|--prefer-binary|--no-binary"
    r"|--only-binary|--require-hashes|--use-feature|--use-pep517)(?=\s|=|$)"
)
_LOCAL = re.compile(r"(\.{0,2}/|\.$|file:)|.*\.(whl|zip|tar\.gz|tgz)$", re.IGNORECASE)
_REMOTE = re.compile(r"(git|hg|svn|bzr)\+|[a-z]+://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a file asks for. ``lines``: a copy of it with nothing but names, versions and hashes; ``notes``: what was
    left out of that."""

    wanted: tuple[Requirement, ...]
    lines: tuple[str, ...]
    notes: tuple[str, ...]


def read_requirements(path: str) -> Requirements | None:
    """Read a file; None when there is none. Raises :class:`EnvironmentFault` that names the line."""
    try:
        with open(path, "rb") as file:
            raw = file.read(LIMIT + 1)
    except (FileNotFoundError, IsADirectoryError):
        return None
    if len(raw) > LIMIT:
        raise EnvironmentFault(f"{NAME} has more than {LIMIT // 1024} KiB.")
    try:
        return parse_requirements(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise EnvironmentFault(f"{NAME} is not in UTF-8.") from None


def parse_requirements(text: str) -> Requirements:
    """Take a file apart. Raises :class:`EnvironmentFault` that names the line."""
    wanted: list[Requirement] = []
    lines: list[str] = []
    notes: list[str] = []
    for number, line in logical_lines(text):
        option = _IGNORED.match(line)
        if option is not None:
            notes.append(
                f"{NAME}, line {number}: {option[1]} is ignored: where packages come from is a setting of the operator."
            )
            continue
        hashes = _HASH.findall(" " + line)
        requirement = _requirement(_HASH.sub("", " " + line).strip(), number)
        wanted.append(requirement)
        lines.append(" ".join([str(requirement), *(f"--hash={each}" for each in hashes)]))
    return Requirements(tuple(wanted), tuple(lines), tuple(notes))


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, from 1: those that end in a backslash put together, without comments and empty ones."""
    held, first = "", 0
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw if raw.lstrip().startswith("#") else held + raw
        first = first if held else number
        if line.endswith("\\") and not raw.lstrip().startswith("#"):
            held = line[:-1]
            continue
        held = ""
        plain = _COMMENT.sub("", line).strip()
        if plain:
            yield first, plain
    if _COMMENT.sub("", held).strip():
        yield first, _COMMENT.sub("", held).strip()


def _requirement(line: str, number: int) -> Requirement:
    what = line if len(line) <= 60 else line[:57] + "..."
    if line.startswith(("-r", "--requirement", "-c", "--constraint")):
        raise EnvironmentFault(
            f"{NAME}, line {number}: {what!r} names another file, which is not read: put its lines in this one."
        )
    if line.startswith("-"):
        raise EnvironmentFault(f"{NAME}, line {number}: {what!r} is an option that cannot be given here: take it out.")
    if _REMOTE.match(line) or _LOCAL.match(line):
        raise EnvironmentFault(
            f"{NAME}, line {number}: {what!r} is no name of a package: only names and versions can be asked for, since "
            "packages come from the operator's index alone. Put the code itself into the model definition."
        )
    try:
        found = Requirement(line)
    except InvalidRequirement as error:
        words = str(error).splitlines()[0] if str(error) else "it cannot be read"
        raise EnvironmentFault(f"{NAME}, line {number}: {what!r} is no requirement: {words}.") from None
    if found.url is not None:
        raise EnvironmentFault(
            f"{NAME}, line {number}: {found.name} is asked for from an address: only names and versions can be."
        )
    return found
