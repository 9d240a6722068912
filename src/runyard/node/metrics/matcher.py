"""Regular expressions over lines, in a process of its own: a file that is run, on the standard library alone.

One that takes too long cannot be interrupted within Python, and would hold up a whole node. So it is tried here, under
a timer of this process's own CPU time whose signal ends it. Standard input has a JSON line with the expressions, then
one a request, ``[number of the expression, [line, ...]]``; each is answered by a JSON line ``[[number of the line,
{group: text}], ...]``.
"""

from __future__ import annotations

import json
import re
import signal
import sys

BUDGET_S = 2.0


def main() -> None:
    """Answer requests until there are none."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    patterns: list[re.Pattern[str]] = [re.compile(each) for each in json.loads(source.readline())]
    for request in source:
        asked: tuple[int, list[str]] = json.loads(request)
        pattern = patterns[asked[0]]
        signal.setitimer(signal.ITIMER_PROF, BUDGET_S)
        found: list[tuple[int, dict[str, str | None]]] = []
        for at, line in enumerate(asked[1]):
            match = pattern.search(line)
            if match is not None:
                found.append((at, match.groupdict()))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sink.write(json.dumps(found).encode() + b"\n")
        sink.flush()


if __name__ == "__main__":
    main()
