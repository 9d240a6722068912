"""Metrics that regular expressions find in the training log (``evaluation_metrics: {type: regex_extractor}``)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

from runyard.node.metrics import matcher
from runyard.node.metrics.gathering import Gathering
from runyard.node.metrics.lines import STEPS, TIMES, to_float, to_moment, to_step

LONGEST_LINE = 8 << 10
"""Bytes of a line that is looked at."""
_ENDS = re.compile(rb"[\r\n]")


class Expressions:
    """The expressions of one attempt's log, and the process that tries them. ``groups``: name and expression each."""

    def __init__(self, groups: Sequence[tuple[str, str]], gathering: Gathering, now: Callable[[], int]) -> None:
        self._groups = groups
        self._gathering = gathering
        self._now = now
        self._dead: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None

    def take(self, data: bytes, *, last: bool) -> int:
        """Try all expressions on the whole lines of ``data`` (a carriage return ends a line, too); returns how many
        bytes they are."""
        end = len(data) if last else max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if end == 0 and len(data) >= LONGEST_LINE * 16:
            return len(data)  # no line of metrics
        lines = [
            line.decode("utf-8", "replace")
            for line in _ENDS.split(data[:end])
            if line and len(line) <= LONGEST_LINE and b"\0" not in line
        ]
        for number, (group, _) in enumerate(self._groups):
            if lines and number not in self._dead:
                self._try(number, group, lines)
        return end

    def _try(self, number: int, group: str, lines: list[str]) -> None:
        try:
            found = self._ask(number, lines)
        except (OSError, ValueError):
            self.close()
            self._dead.add(number)
            self._gathering.note(
                f"The regular expression of the group {group!r} takes too long on this log: it is not used any more."
            )
            return
        for _, texts in found:
            self._match(group, texts)

    def _match(self, group: str, texts: Mapping[str, str | None]) -> None:
        told = {name.lower(): text for name, text in texts.items() if text is not None}
        steps = [(name, to_step(told[name])) for name in STEPS if name in told]
        step_name, step = next(((name, step) for name, step in steps if step is not None), ("", None))
        moments = (to_moment(told[name]) for name in TIMES if name in told)
        time_ms = next((moment for moment in moments if moment is not None), None)
        for name, text in texts.items():
            value = to_float(text)
            if value is not None and name.lower() != step_name and name.lower() not in TIMES:
                self._gathering.add(group, name, step, self._now() if time_ms is None else time_ms, value)

    def _ask(self, number: int, lines: list[str]) -> list[tuple[int, Mapping[str, str | None]]]:
        process = self._process
        if process is None:
            process = self._process = _start([regex for _, regex in self._groups])
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([number, lines]).encode() + b"\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise OSError("the process that tries regular expressions has ended")
        found: list[tuple[int, Mapping[str, str | None]]] = json.loads(answer)
        return found

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except OSError:
                        pass  # what was in it is of no use any more


def _start(expressions: list[str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", os.path.abspath(matcher.__file__)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"LANG": "C.UTF-8"},
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(expressions).encode() + b"\n")
    return process
