"""200 runs that do nothing, submitted in one call, against `xargs -P2` of the same script.

What is timed is what a person sees: from the start of `runyard train` to the return of `runyard wait`.
"""

import argparse
from pathlib import Path
from typing import cast

from bench.yardstick import comparison, server_of_its_own, timed, xargs
from tools.runyard_cli import Runyard

MODEL = Path(__file__).resolve().parent / "models" / "trivial"
SLOTS = 2


def submit_and_wait(runyard: Runyard, count: int) -> None:
    submitted = runyard.ask_record(
        "train", str(MODEL), str(MODEL / "manifest.yml"), "--args", "--set", f"n=0..{count - 1}:{count}"
    )
    ids = cast("list[str]", submitted["ids"])
    if len(ids) != count:
        raise SystemExit(f"{count} runs were asked for and {len(ids)} accepted")
    runyard.ask("wait", *ids)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    ours: list[float] = []
    yardstick: list[float] = []
    with server_of_its_own(SLOTS) as runyard:
        runyard.ask("quota", "set", "default", "--gpus", str(SLOTS))
        submit_and_wait(runyard, SLOTS)  # not timed: the first runs warm up what later ones find warm
        for _ in range(given.repeat):
            yardstick.append(timed(lambda: xargs(MODEL / "trivial.py", given.runs, SLOTS)))
            ours.append(timed(lambda: submit_and_wait(runyard, given.runs)))
            print(f"xargs {yardstick[-1]:.2f} s, runyard {ours[-1]:.2f} s", flush=True)
    print(comparison(("runyard", f"xargs -P{SLOTS}"), ours, yardstick))


if __name__ == "__main__":
    main()
