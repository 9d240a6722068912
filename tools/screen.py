"""Progress for a person: one line that is written over on a terminal, a line now and then elsewhere."""

import shutil
import sys
import time
from types import TracebackType
from typing import Self

QUIET_SECONDS = 10.0
"""Off a terminal a step that takes long says so this often, no more."""


def say(text: str = "") -> None:
    print(text, flush=True)


class Step:
    """A step with a name, a changing detail and, at its end, its time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.began = time.monotonic()
        self._said = self.began
        self._live = sys.stdout.isatty()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def show(self, detail: str) -> None:
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            text = f"{self.name}  {self.seconds:3.0f} s  {detail}"
            print("\r\033[K" + text[:width], end="", flush=True)
        elif time.monotonic() - self._said >= QUIET_SECONDS:
            self._said = time.monotonic()
            say(f"{self.name}  {self.seconds:3.0f} s  {detail}")

    def __enter__(self) -> Self:
        if self._live:
            self.show("")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end = "done" if kind is None else "failed"
        say(("\r\033[K" if self._live else "") + f"{self.name}  {end}, {self.seconds:.1f} s")


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Columns as wide as their widest cell; cells that are numbers stand to the right."""
    widths = [max(len(row[number]) for row in [heads, *rows]) for number in range(len(heads))]

    def line(cells: list[str]) -> str:
        parts = [
            cell.rjust(width) if is_number(cell) else cell.ljust(width)
            for cell, width in zip(cells, widths, strict=True)
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([line(heads), line(["-" * width for width in widths]), *(line(row) for row in rows)])


def is_number(cell: str) -> bool:
    return bool(cell) and cell.replace(".", "", 1).replace("%", "", 1).strip().isdigit()
