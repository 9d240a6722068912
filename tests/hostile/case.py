"""One row of the table of hostile inputs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.hostile.yard import Answer, Yard

Send = Callable[[Yard], Answer]


@dataclass(frozen=True, slots=True)
class Case:
    """``what`` is sent (in words), and what is answered: ``status``, ``code`` and words of the sentence (a regular
    expression without special characters in almost all). ``path`` and ``line``: of the first problem of a manifest.

    ``kept`` says in words what a request that is granted in spite of its look leaves behind; None: nothing at all.
    """

    kind: str
    what: str
    send: Send = field(repr=False)
    status: int
    code: str
    words: str
    line: int | None = None
    path: str | None = None
    kept: str | None = None

    def check(self, answer: Answer) -> None:
        """Raises ``AssertionError`` unless the answer is the one of the row."""
        shown = answer.body[:600]
        assert answer.status == self.status, (answer.status, shown)
        if self.code:
            assert answer.headers["content-type"] == "application/problem+json", (answer.headers, shown)
            told = answer.json()
            assert (told["status"], told["code"]) == (self.status, self.code), shown
            assert self.words in told["detail"], (self.words, told["detail"][:600])
            assert len(told["detail"]) >= 20, shown
            assert len(answer.body) < 100_000
            if self.line is not None or self.path is not None:
                first = told["problems"][0]
                assert self.line in (None, first["line"]), first
                assert self.path in (None, first["path"]), first
        elif self.words:
            assert re.search(re.escape(self.words), answer.body.decode("utf-8", "replace")), shown


@dataclass(frozen=True, slots=True)
class Zip:
    """A hostile zip: kept by the server as any other bytes, refused by the node with the reason ``code_invalid``."""

    what: str
    make: Callable[[], bytes] = field(repr=False)
    words: str
    good: Callable[[Path], bool] | None = field(default=None, repr=False)
