"""Fuzzing: ``python -m bench.fuzz --minutes 30`` (each target so long, all beside each other at most ``--workers``).

Each target runs under atheris in a process of its own, from the seeds of ``tests/fuzz/corpus`` and what earlier runs
have grown in ``.bench/fuzz``. A crash is told with the file that holds its bytes: it belongs into ``tests/fuzz/found``.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.environment import ROOT
from tools.screen import table

TARGETS = ("manifest", "zip", "words")
SEEDS = ROOT / "tests" / "fuzz" / "corpus"
GROWN = ROOT / ".bench" / "fuzz"
_DONE = re.compile(r"Done (\d+) runs in (\d+) second")
_COVERED = re.compile(r"cov: (\d+)")


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """What came of one target. ``crash``: the file that makes it fail, empty where there is none."""

    target: str
    inputs: int
    seconds: int
    covered: int
    corpus: int
    crash: str
    told: str


def fuzz(target: str, seconds: int, grown: Path = GROWN) -> Fuzzed:
    """Fuzz a target so long."""
    corpus = grown / target
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in (SEEDS / target).iterdir():
        if not (corpus / seed.name).exists():
            shutil.copy(seed, corpus)
    limits = [f"-max_total_time={seconds}", "-max_len=8192", "-rss_limit_mb=1024", "-timeout=20"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "bench.fuzzing.one",
            target,
            *limits,
            f"-artifact_prefix={grown}/{target}-",
            str(corpus),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + 120,
        check=False,
    )
    covered = [int(each) for each in _COVERED.findall(done.stderr)]
    end = _DONE.search(done.stderr)
    crashed = re.search(r"Test unit written to (\S+)", done.stderr)
    return Fuzzed(
        target,
        int(end[1]) if end else 0,
        int(end[2]) if end else 0,
        max(covered, default=0),
        sum(1 for _ in corpus.iterdir()),
        crashed[1] if crashed else "" if done.returncode == 0 else f"exit code {done.returncode}",
        done.stderr[-3000:],
    )


def main() -> int:
    """Exit code: 0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--minutes", type=float, default=1.0, help="of each target, one after the other")
    given = parser.parse_args()
    found = [fuzz(each, round(given.minutes * 60)) for each in given.targets or TARGETS]
    rows = [[f.target, str(f.inputs), str(f.seconds), str(f.covered), str(f.corpus), f.crash or "-"] for f in found]
    print(table(["target", "inputs", "s", "covered", "corpus", "crash"], rows))
    for each in found:
        if each.crash:
            print(f"\n{each.target}:\n{each.told}")
    return 1 if any(each.crash for each in found) else 0


if __name__ == "__main__":
    sys.exit(main())
