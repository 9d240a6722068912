"""What the architecture tests read: the files of the package, parsed once, and the measures taken of them."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "runyard"
MIGRATIONS = PACKAGE / "adapters" / "sql" / "migrations" / "versions"

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 500
SILENCE = re.compile(r"#\s*(noqa(:\s*[A-Z]+[0-9]+(,\s*[A-Z]+[0-9]+)*)?|(pyright|type):\s*ignore(\[[\w, -]+\])?)")
"""A comment that makes a checker look away."""
REASON = re.compile(r"#\s*long:\s*\S+")
"""A function's signature, or one of a file's first ten lines, may say why it is long: ``# long: one case a state``."""


@dataclass(frozen=True, slots=True)
class Source:
    """One parsed file: its path, its lines and its syntax tree."""

    path: Path
    lines: tuple[str, ...]
    tree: ast.Module

    def place(self, line: int) -> str:
        return f"{self.path.relative_to(ROOT)}:{line}" if self.path.is_relative_to(ROOT) else f"{self.path}:{line}"


def parse(path: Path) -> Source:
    text = path.read_text(encoding="utf-8")
    return Source(path, tuple(text.splitlines()), ast.parse(text, str(path)))


@cache
def package_sources() -> tuple[Source, ...]:
    """Every file of the package but the migrations, which are history and grow by nature."""
    paths = sorted(path for path in PACKAGE.rglob("*.py") if not path.is_relative_to(MIGRATIONS))
    return tuple(parse(path) for path in paths)


def long_functions(source: Source) -> Iterator[str]:
    """Functions over ``MAX_FUNCTION_LINES``, docstring included and decorators left out, that give no reason."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        signature = source.lines[node.lineno - 1 : node.body[0].lineno]
        if length > MAX_FUNCTION_LINES and not any(REASON.search(line) for line in signature):
            yield f"{source.place(node.lineno)}: {node.name} has {length} lines"


def is_long_file(source: Source) -> bool:
    """Whether the file has over ``MAX_FILE_LINES`` lines and none of the first ten gives a reason."""
    return len(source.lines) > MAX_FILE_LINES and not any(REASON.search(line) for line in source.lines[:10])


def empty_names(source: Source) -> Iterator[str]:
    """Classes whose name says nothing.

    ``Service`` is such a word where it ends a name; in front it is the product's word for the older
    service whose dialect we speak.
    """
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ClassDef):
            continue
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*", node.name)
        empty = {"Manager", "Helper", "Helpers", "Util", "Utils", "Utility"}.intersection(words)
        if empty or words[-1:] == ["Service"]:
            yield f"{source.place(node.lineno)}: class {node.name}"


def silence_without_reason(source: Source) -> Iterator[str]:
    """Comments that make a checker look away and do not say why, on the same line or in a comment just above."""
    text = "\n".join(source.lines) + "\n"
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and SILENCE.search(token.string):
            above = comment_above(source.lines, token.start[0] - 1)
            if not says_something(SILENCE.sub("", token.string)) and not says_something(above):
                yield f"{source.place(token.start[0])}: {token.string}"


def comment_above(lines: tuple[str, ...], index: int) -> str:
    """The comment above a line, or above the block of such lines that it belongs to; empty when there is none."""
    while index > 0 and SILENCE.search(lines[index - 1]):
        index -= 1
    before = lines[index - 1].strip() if index > 0 else ""
    return before if before.startswith("#") else ""


def says_something(comment: str) -> bool:
    return len(re.findall(r"[A-Za-z]{2,}", comment)) >= 1
