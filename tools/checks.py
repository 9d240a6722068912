"""Every check of the project, each with its time; all run, then the first failure decides."""

import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from tools.environment import ROOT, NotPrepared, clean_environment, compile_all, prepare, program
from tools.screen import say

EXTRAS = ("server", "samples", "dev")
WORKERS = 4
"""How many tests run at a time on any machine: most wait for processes most of their time."""


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
    """In the order in which they decide; pytest comes last, so that its closing line is the end of what is seen."""
    workers = ("-n", str(WORKERS), "--dist", "loadfile", "--no-loadscope-reorder")
    return [
        Check("ruff check", ("ruff", "check")),
        Check("ruff format", ("ruff", "format", "--check")),
        Check("lint-imports", ("lint-imports", "--no-logo", "--no-cache")),
        Check("pyright", ("pyright", "--warnings")),
        Check("pytest", ("pytest", *workers, *pytest_arguments)),
    ]


def start(check: Check, words: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """``words``: where what it says goes; straight to the screen without."""
    command = [str(program(check.command[0])), *check.command[1:]]
    return subprocess.Popen(command, cwd=ROOT, env=clean_environment(), stdout=words, stderr=words)


def run(check: Check) -> Outcome:
    """The check's own words go straight to the screen."""
    say(f"\n=== {check.name}: {' '.join(check.command)}")
    began = time.monotonic()
    return Outcome(check.name, start(check).wait(), time.monotonic() - began)


@contextmanager
def beside(check: Check, outcomes: list[Outcome]) -> Generator[None]:
    """A check that runs while the block has the screen. When both have ended its outcome is added, and its words are
    shown where it failed."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as words:
        process = start(check, words)
        try:
            yield
        except BaseException:
            process.terminate()
            raise
        finally:
            code = process.wait()
        outcomes.append(Outcome(check.name, code, time.monotonic() - began))
        if code != 0:
            words.seek(0)
            say(f"\n=== {check.name}: {' '.join(check.command)}\n{words.read().decode(errors='replace')}")


def main(arguments: list[str]) -> int:
    """Exit code: 0, or that of the first check that failed; 2 when the environment could not be made."""
    try:
        prepare(EXTRAS)
    except NotPrepared as problem:
        say(str(problem))
        return 2
    compile_all(ROOT / "src")  # hundreds of processes of the tests import them
    *first, types, tests = checks(arguments)
    outcomes: list[Outcome] = []
    for check in first:
        outcomes.append(run(check))
        say(f"=== {outcomes[-1]}")
    with beside(types, outcomes):
        tested = run(tests)
    return report([*outcomes, tested])


def report(outcomes: list[Outcome]) -> int:
    """Says nothing when all is well: the closing line of pytest is the end of what is seen."""
    failed = [outcome for outcome in outcomes if outcome.code != 0]
    if failed:
        say("\nNot in order: " + "; ".join(str(outcome) for outcome in failed))
    return failed[0].code if failed else 0
