"""A command as its author gave it: words, or one text for bash."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from runyard.client.errors import Misuse

EXAMPLE: Final = "runyard run --set lr=0.1,0.01 --args -- python train.py"

_PYTHON: Final = re.compile(r"(?:.*/)?python(?:3(?:\.[0-9]+)?)?", re.S)
_IN_TEXT: Final = re.compile(r"(?:^|[\s;&|(])((?:[\w.~/-]*/)?python(?:3(?:\.[0-9]+)?)?)(?=\s|\Z)")


@dataclass(frozen=True, slots=True)
class Command:
    """``words`` reach the program exactly as they are; with ``text`` there is one, and bash reads it."""

    words: tuple[str, ...]
    text: bool = False

    @staticmethod
    def of(given: str | Sequence[str]) -> Command:
        """A text is for bash; so is a single word with white space, for no program is called so. Raises
        :class:`Misuse` when there is nothing to run."""
        words = (given,) if isinstance(given, str) else tuple(given)
        if not any(word.strip() for word in words) or not words[0].strip():
            raise Misuse(f"There is no command to run. For example: {EXAMPLE}")
        return Command(words, isinstance(given, str) or (len(words) == 1 and re.search(r"\s", words[0]) is not None))

    @property
    def bash(self) -> str:
        """What bash is given."""
        return self.words[0].strip() if self.text else shlex.join(self.words)

    @property
    def python(self) -> str | None:
        """The first word that calls Python, None where there is none."""
        if self.text:
            match = _IN_TEXT.search(self.words[0])
            return match[1] if match is not None else None
        return next((word for word in self.words if is_python(word)), None)

    @property
    def portable(self) -> Command:
        """The command with a path to Python at its beginning as ``python``: a run finds its own under that name."""
        head, space, rest = self.words[0].partition(" ") if self.text else (self.words[0], "", "")
        if "/" not in head or not is_python(head):
            return self
        return Command((f"python{space}{rest}", *self.words[1:]), self.text)

    def read(self) -> list[str]:
        """The words, as far as they can be told without bash; none where they cannot."""
        try:
            return shlex.split(self.words[0], comments=True) if self.text else list(self.words)
        except ValueError:
            return []


def is_python(word: str) -> bool:
    """Whether a word calls Python: ``python``, ``python3``, ``python3.12``, or a path that ends so."""
    return _PYTHON.fullmatch(word) is not None
