"""Tables for terminals and pipes: columns as wide as they need, one of them cut where the line is too long."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from unicodedata import east_asian_width


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, flexible: int, width: int | None = None) -> str:
    """Lay out rows below a header. Column ``flexible`` is cut to fit ``width`` cells (default: the terminal's; no
    limit in a pipe)."""
    cells = [[each.replace("\n", " ") for each in row] for row in (header, *rows)]
    widths = [max(cell_width(row[column]) for row in cells) for column in range(len(header))]
    limit = terminal_width() if width is None else width
    if limit is not None:
        others = sum(widths) - widths[flexible] + 2 * (len(widths) - 1)
        widths[flexible] = min(widths[flexible], max(limit - others, 8))
    return "\n".join(
        "  ".join(_pad(_cut(cell, widths[column]), widths[column]) for column, cell in enumerate(row)).rstrip()
        for row in cells
    )


def terminal_width() -> int | None:
    """The width of the terminal that stdout is, None for a pipe or file."""
    if not sys.stdout.isatty():
        return None
    from shutil import get_terminal_size  # noqa: PLC0415  # for start-up: a pipe needs no width

    return get_terminal_size().columns


def cell_width(text: str) -> int:
    """The cells that a text takes: two for wide characters."""
    return len(text) if text.isascii() else sum(2 if east_asian_width(each) in "WF" else 1 for each in text)


def _cut(text: str, width: int) -> str:
    if cell_width(text) <= width:
        return text
    while text and cell_width(text) > width - 1:
        text = text[:-1]
    return text.rstrip() + "…"


def _pad(text: str, width: int) -> str:
    return text + " " * (width - cell_width(text))


def pairs(items: Sequence[tuple[str, str]]) -> str:
    """Keys and values, one a line, the values below each other; empty values are left out."""
    shown = [(key, value) for key, value in items if value]
    width = max((len(key) for key, _ in shown), default=0)
    return "\n".join(f"{key:<{width}}  {value.replace(chr(10), chr(10) + ' ' * (width + 2))}" for key, value in shown)
