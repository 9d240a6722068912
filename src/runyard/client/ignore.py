"""Which files of a folder are the model definition: git's own rules (gitignore(5)), and a few names that never are.

In each folder its ``.runyardignore`` counts or, where it has none, its ``.gitignore``. A ``.runyardignore`` at the top
switches off every ``.gitignore``, so that it alone says what is left out. Without one, a folder inside a git
repository also obeys the ``.gitignore`` files above it and ``.git/info/exclude``. Rules decide, not the index: a
tracked file that a rule names stays out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from runyard.client.errors import PackingError
from runyard.core.ids import is_run_id

OURS: Final = ".runyardignore"
GITS: Final = ".gitignore"
NEVER: Final = frozenset({".git", "__pycache__", ".runyard"})
"""Names that are never packed, wherever they stand. Neither is a virtual environment (it holds ``pyvenv.cfg``)."""

_RANGES: Final = {
    "alpha": "A-Za-z",
    "digit": "0-9",
    "alnum": "A-Za-z0-9",
    "lower": "a-z",
    "upper": "A-Z",
    "xdigit": "A-Fa-f0-9",
    "space": " \t\n\r\f\v",
    "blank": " \t",
}
_CLASS: Final = re.compile(rf"(\[[!^]?\]?[^\[\]]*)\[:({'|'.join(_RANGES)}):\]")


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of an ignore file: what it matches, whether folders only, and whether it ignores or keeps."""

    pattern: re.Pattern[str]
    folders_only: bool
    ignores: bool

    def matches(self, path: str, *, is_folder: bool) -> bool:
        """Whether it matches this very path (relative to the rule's file), not only a folder above it."""
        if self.folders_only and not is_folder:
            return False
        found = self.pattern.search(path)
        # The group `ps_d` is the slash behind a folder that matched: then it was one above.
        return found is not None and found.groupdict().get("ps_d") is None


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one ignore file; ``base``: the folder they are relative to, in parts from the walk's top. A file
    above the top has ``above``, the parts that lead from its folder down to the top."""

    rules: tuple[Rule, ...]
    base: int = 0
    above: tuple[str, ...] = ()

    def verdict(self, parts: Sequence[str], *, is_folder: bool) -> bool | None:
        """True: ignored, False: kept by a ``!`` rule, None: nothing said. The last rule that matches decides."""
        path = "/".join((*self.above, *parts[self.base :]))
        for rule in reversed(self.rules):
            if rule.matches(path, is_folder=is_folder):
                return rule.ignores
        return None


def read_rules(text: str) -> tuple[Rule, ...]:
    """Read an ignore file."""
    return tuple(rule for line in text.removeprefix("\ufeff").split("\n") if (rule := _rule(line)) is not None)


def _rule(line: str) -> Rule | None:
    from pathspec.patterns.gitignore.spec import (  # noqa: PLC0415  # for start-up: 40 ms that most folders do not need
        GitIgnoreSpecPattern,
    )

    line = _stripped(line.removesuffix("\r"))
    folders_only = line.endswith("/") and not line.endswith("\\/")
    bare = line.rstrip("/") if folders_only else line
    if bare in ("", "!") or bare.startswith("#"):
        return None
    try:
        pattern = GitIgnoreSpecPattern(_with_ranges(bare))
    except ValueError:
        return None  # git discards what it cannot read
    regex = cast("re.Pattern[str] | None", pattern.regex)  # pyright: ignore[reportUnknownMemberType]  # untyped there
    return None if regex is None or pattern.include is None else Rule(regex, folders_only, pattern.include)


def _with_ranges(line: str) -> str:
    """With ``[[:alpha:]]`` and the like written as ranges, which is all that the library reads."""
    while (wider := _CLASS.sub(lambda found: found[1] + _RANGES[found[2]], line)) != line:
        line = wider
    return line


def _was_downloaded(folder: Path) -> bool:
    """Whether a folder is one that ``download`` made."""
    return is_run_id(folder.name) and (folder / "learner-1").is_dir()


def _stripped(line: str) -> str:
    """Without trailing spaces, except one that a backslash guards."""
    bare = line.rstrip(" ")
    escapes = len(bare) - len(bare.rstrip("\\"))
    return bare + " " if escapes % 2 and len(bare) < len(line) else bare


@dataclass(frozen=True, slots=True)
class Found:
    """A file to pack: its path in the zip, where it lies, its size in bytes and whether it is executable."""

    name: str
    path: Path
    size: int
    executable: bool


@dataclass(frozen=True, slots=True)
class Walk:
    """What a walk found, in the order of names, and sentences about what it left out."""

    files: tuple[Found, ...]
    notices: tuple[str, ...]


def walk(top: Path) -> Walk:
    """Collect the files of a folder that are not ignored. Symbolic links are followed inside the folder; one that
    leads out of it, or nowhere, is left out with a notice. Raises :class:`PackingError` for what cannot be read."""
    top = top.resolve()
    walker = _Walker(top)
    files = sorted(walker.folder(top, (), _rules_above(top), frozenset({top})), key=lambda found: found.name)
    return Walk(tuple(files), tuple(walker.notices))


class _Walker:
    def __init__(self, top: Path) -> None:
        self._top = top
        self._files = (OURS,) if (top / OURS).is_file() else (OURS, GITS)
        self.notices: list[str] = []

    def folder(
        self, folder: Path, parts: tuple[str, ...], rules: tuple[Rules, ...], inside: frozenset[Path]
    ) -> Iterator[Found]:
        """The files below ``folder``; ``rules`` has the nearest file last; ``inside``: real folders that we are in."""
        rules = (*rules, *self._own(folder, len(parts)))
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            raise PackingError(f"The folder {folder} cannot be read: {error.strerror}.") from error
        for entry in entries:
            yield from self._entry(entry, (*parts, entry.name), rules, inside)

    def _own(self, folder: Path, depth: int) -> tuple[Rules, ...]:
        for name in self._files:
            text = _text(folder / name)
            if text is not None:
                return (Rules(read_rules(text), depth),)
        return ()

    def _entry(
        self, entry: Path, parts: tuple[str, ...], rules: tuple[Rules, ...], inside: frozenset[Path]
    ) -> Iterator[Found]:
        is_link = entry.is_symlink()
        # To git a link is a file, wherever it leads.
        is_folder = entry.is_dir() and not is_link
        if entry.name in NEVER or ignored(rules, parts, is_folder=is_folder):
            return
        name = "/".join(parts)
        target = entry.resolve() if is_link else entry
        if is_link and not (target.exists() and target.is_relative_to(self._top)):
            self.notices.append(f"left out {name}: the link leads out of the folder, or nowhere")
        elif is_link and not NEVER.isdisjoint(target.relative_to(self._top).parts):
            self.notices.append(f"left out {name}: the link leads to what is never sent")
        elif target.is_dir():
            if target in inside:
                self.notices.append(f"left out {name}: the link leads into itself")
            elif _was_downloaded(target):
                self.notices.append(f"left out {name}: it holds what a run has stored")
            elif not (target / "pyvenv.cfg").is_file():
                yield from self.folder(entry, parts, rules, inside | {target})
        elif target.is_file():
            status = target.stat()
            yield Found(name, target, status.st_size, bool(status.st_mode & 0o100))
        else:
            self.notices.append(f"left out {name}: it is no regular file")


def ignored(rules: Sequence[Rules], parts: Sequence[str], *, is_folder: bool) -> bool:
    """Whether an entry of a folder that is not ignored itself is ignored: the nearest file that says anything."""
    for each in reversed(rules):
        verdict = each.verdict(parts, is_folder=is_folder)
        if verdict is not None:
            return verdict
    return False


def _rules_above(top: Path) -> tuple[Rules, ...]:
    """The rules of the git repository around the folder; none when they ignore the folder itself, or it has its own."""
    if (top / OURS).is_file():
        return ()
    root = next((folder for folder in (top, *top.parents) if (folder / ".git").exists()), None)
    if root is None:
        return ()
    down = top.relative_to(root).parts
    found: list[Rules] = []
    exclude = _text(root / ".git" / "info" / "exclude")
    if exclude is not None:
        found.append(Rules(read_rules(exclude), 0, down))
    for depth in range(len(down)):
        text = _text(root.joinpath(*down[:depth]) / GITS)
        if text is not None:
            found.append(Rules(read_rules(text), 0, down[depth:]))
        if _ignored_from_above(found, down, depth + 1):
            return ()
    return tuple(found)


def _ignored_from_above(found: Sequence[Rules], down: tuple[str, ...], depth: int) -> bool:
    """Whether the rules ignore the folder ``down[:depth]``, which leads to the top of the walk or is it."""
    for each in reversed(found):
        start = len(down) - len(each.above)
        verdict = Rules(each.rules).verdict(down[start:depth], is_folder=True)
        if verdict is not None:
            return verdict
    return False


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else None
    except OSError as error:
        raise PackingError(f"{path} cannot be read: {error.strerror}.") from error
