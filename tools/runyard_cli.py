"""The command line of Runyard as a person uses it, called from a script: words in, words or JSON out."""

import json
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tools.environment import ROOT, clean_environment, program

JsonRecord = dict[str, object]
"""One JSON object."""


class CommandFailed(Exception):
    """A command ended with another exit code than expected; the message has the command and what it said."""


@dataclass(frozen=True, slots=True)
class Runyard:
    """The commands of the installed `runyard`, all aimed at the installation in one home folder."""

    home: Path

    def environment(self) -> dict[str, str]:
        return {**clean_environment(), "RUNYARD_HOME": str(self.home)}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """The command as a process of its own; nothing of what it says is kept."""
        return subprocess.Popen(
            [str(program("runyard")), *words],
            cwd=ROOT,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, *words: str, expected: tuple[int, ...] = (0,)) -> str:
        """What the command wrote to stdout. Raises ``CommandFailed`` on an exit code that was not expected."""
        done = subprocess.run(
            [str(program("runyard")), *words],
            cwd=ROOT,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in expected:
            said = (done.stderr or done.stdout).strip() or "(nothing)"
            raise CommandFailed(f"`{shlex.join(['runyard', *words])}` ended with {done.returncode} and said:\n{said}")
        return done.stdout

    def ask_json(self, *words: str, expected: tuple[int, ...] = (0,)) -> object:
        return json.loads(self.ask(*words, "--json", expected=expected))

    def ask_record(self, *words: str) -> JsonRecord:
        return cast("JsonRecord", self.ask_json(*words))

    def is_up(self) -> bool:
        done = subprocess.run(
            [str(program("runyard")), "status"],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    def typed(self, *words: str) -> str:
        """How a person would type it, from the project's folder."""
        home = os.path.relpath(self.home, Path.cwd())
        return (
            f"RUNYARD_HOME={shlex.quote(home)} {shlex.quote(os.path.relpath(program('runyard')))} {shlex.join(words)}"
        )
