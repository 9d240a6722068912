"""Writes docs/states.md from the tables in core: `python -m tools.gen_states` (`--check` only compares).

What the code cannot say (what a state means, what draws an arrow) stands here, by state and by arrow; a state or an
arrow without words, or words without a state or an arrow, is an error.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from runyard.core.lifecycle import RetryPolicy
from runyard.core.reasons import RULES, Fault, Rule
from runyard.core.run import FINAL, HOLDS_SLOT, TRANSITIONS, StateName
from tools.screen import say

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "states.md"
COMMAND: Final = "python -m tools.gen_states"

S = StateName
MEANINGS: Final[Mapping[StateName, str]] = {
    S.waiting: "accepted; code and data are fetched meanwhile; says what it waits for, its position and an estimate",
    S.starting: "a slot is assigned, the program has not begun",
    S.running: "the program runs",
    S.stopping: "SIGTERM is sent and the grace runs: cancel, prune, time limit, making room",
    S.storing: "the program has ended and its slot is free; results and logs are on their way, for as long as it takes",
    S.completed: "final: the program ended well (or its search ended it) and the results are stored",
    S.failed: "final: the reason says whose fault it was and what to do",
    S.canceled: "final: somebody wanted it to end; says what was not stored, when something was not",
}

ARROWS: Final[Mapping[tuple[StateName, StateName], str]] = {
    (S.waiting, S.waiting): "staged, what it waited for has completed, granted ahead, or that taken back",
    (S.waiting, S.starting): "slots assigned, or taken over as granted",
    (S.waiting, S.stopping): "cancel or prune after it was granted ahead",
    (S.waiting, S.storing): "staging failed, or ended unseen after it was granted ahead",
    (S.waiting, S.canceled): "cancel or prune, or what it waited for did not complete",
    (S.starting, S.starting): "its node has taken other slots",
    (S.starting, S.running): "program begins",
    (S.starting, S.stopping): "stop",
    (S.starting, S.storing): "ended before it began, for good",
    (S.starting, S.waiting): "new attempt",
    (S.running, S.running): "its GPU reports an error, it does nothing for long or something again",
    (S.running, S.stopping): "stop",
    (S.running, S.storing): "program ended, for good",
    (S.running, S.waiting): "new attempt",
    (S.stopping, S.stopping): "program begins, or a weightier stop",
    (S.stopping, S.storing): "program ended, for good",
    (S.stopping, S.waiting): "made room, or new attempt",
    (S.storing, S.storing): "a try failed",
    (S.storing, S.completed): "stored",
    (S.storing, S.failed): "stored, or its results were lost",
    (S.storing, S.canceled): "stored or lost, or cancel while storing",
}
"""Mermaid takes no colon and no semicolon in these."""


def page() -> str:
    """The whole page. Raises ``ValueError`` where words and tables do not agree."""
    drawn = {(start, end) for start, ends in TRANSITIONS.items() for end in ends}
    if set(MEANINGS) != set(StateName) or set(ARROWS) != drawn:
        odd = [*(set(MEANINGS) ^ set(StateName)), *(" -> ".join(arrow) for arrow in set(ARROWS) ^ drawn)]
        raise ValueError(f"Give words in tools/gen_states.py to what has none and drop the others: {sorted(odd)}")
    parts = (INTRODUCTION, diagram(), STATES, states(), reasons_introduction(RetryPolicy()), reasons())
    return "\n\n".join(parts) + "\n"


INTRODUCTION: Final = f"""# The states of a run, and why runs end

`{COMMAND}` writes this page from the tables in `core/run.py` and `core/reasons.py`; a test compares them.
Every change of state is one of these arrows, is recorded as an event, and raises the run's version by one."""

STATES: Final = """## States

From the assignment of its slots to their release a run is billed: billed time never exceeds what the machines have.
Storing costs nothing. A run is retried as a new attempt of the same run, so `waiting` may come again."""


def diagram() -> str:
    """The transition table as a mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> waiting: accepted"]
    lines += [f"    {start} --> {end}: {words}" for (start, end), words in ARROWS.items()]
    lines += [f"    {state} --> [*]" for state in StateName if state in FINAL]
    return "\n".join([*lines, "```"])


def states() -> str:
    """The table of states."""
    rows = [
        (
            f"`{state}`",
            MEANINGS[state],
            yes(state in HOLDS_SLOT),
            yes(state in HOLDS_SLOT),
            ", ".join(f"`{end}`" for end in StateName if end in TRANSITIONS[state] and end is not state) or "–",
        )
        for state in StateName
    ]
    return table(("state", "means", "slot held", "billed", "may be followed by"), rows)


def reasons_introduction(policy: RetryPolicy) -> str:
    """What stands above the table of reasons, with the default budget."""
    first, longest = seconds(policy.first_backoff_ms), seconds(policy.longest_backoff_ms)
    own = f"{policy.platform_attempts} times at most: {first} after the first, twice as long after each further one"
    return f"""## Reasons

A reason says whose fault the end was. The platform's own faults cost the account nothing. A new attempt follows them by
itself, {own}, {longest} at most.
The user's faults are shown with their evidence, and tried again only as far as `max_retries` of the manifest says.
The two budgets count on their own."""


def reasons() -> str:
    """The table of reasons."""
    rows = [
        (f"`{reason}`", rule.fault.value, attempts(rule), yes(rule.billed), rule.sentence.replace("|", "\\|"))
        for reason, rule in RULES.items()
    ]
    return table(("reason", "whose fault", "new attempt", "billed", "what the run's page says"), rows)


def attempts(rule: Rule) -> str:
    """When a new attempt follows, in words."""
    if not rule.retry:
        return "no"
    words = {Fault.none: "always", Fault.user: "within `max_retries`", Fault.platform: "within the platform's budget"}
    return words[rule.fault]


def seconds(ms: int) -> str:
    """A duration in words."""
    return f"{ms / 1000:g} s"


def yes(truth: bool) -> str:
    """A truth as a table's cell."""
    return "yes" if truth else "no"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    heads = tuple(heads)
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: list[str]) -> int:
    """Exit code: 0, or 1 when ``--check`` finds the page out of date."""
    text = page()
    if "--check" not in arguments:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    say(f"docs/states.md is out of date: run `{COMMAND}`.")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
