"""Every check of the project, in order, each with its time; all run, then the first failure decides."""

import subprocess
import time
from dataclasses import dataclass

from tools.environment import ROOT, NotPrepared, clean_environment, prepare, program
from tools.screen import say

EXTRAS = ("server", "samples", "dev")


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    name: str
    code: int
    seconds: float

    def __str__(self) -> str:
        end = "in order" if self.code == 0 else f"failed with exit code {self.code}"
        return f"{self.name}: {end}, {self.seconds:.1f} s"


def checks(pytest_arguments: list[str]) -> list[Check]:
    """In the order in which they run; pytest comes last, so that its closing line is the end of what is seen."""
    return [
        Check("ruff check", ("ruff", "check")),
        Check("ruff format", ("ruff", "format", "--check")),
        Check("pyright", ("pyright", "--warnings")),
        Check("lint-imports", ("lint-imports", "--no-logo", "--no-cache")),
        Check("pytest", ("pytest", "-n", "2", "--dist", "loadfile", *pytest_arguments)),
    ]


def run(check: Check) -> Outcome:
    """The check's own words go straight to the screen."""
    say(f"\n=== {check.name}: {' '.join(check.command)}")
    began = time.monotonic()
    command = [str(program(check.command[0])), *check.command[1:]]
    code = subprocess.run(command, cwd=ROOT, env=clean_environment(), check=False).returncode
    return Outcome(check.name, code, time.monotonic() - began)


def main(arguments: list[str]) -> int:
    """Exit code: 0, or that of the first check that failed; 2 when the environment could not be made."""
    try:
        prepare(EXTRAS)
    except NotPrepared as problem:
        say(str(problem))
        return 2
    *first, last = checks(arguments)
    outcomes: list[Outcome] = []
    for check in first:
        outcomes.append(run(check))
        say(f"=== {outcomes[-1]}")
    outcomes.append(run(last))
    return report(outcomes)


def report(outcomes: list[Outcome]) -> int:
    """Says nothing when all is well: the closing line of pytest is the end of what is seen."""
    failed = [outcome for outcome in outcomes if outcome.code != 0]
    if failed:
        say("\nNot in order: " + "; ".join(str(outcome) for outcome in failed))
    return failed[0].code if failed else 0
