"""Every sample through a real installation, twice: `python3 -m tools.samples` (`--short` for a quick look).

Starts a service of its own with four logical GPU slots, unless one is up in `--home` already. Each row tells how the
sample ended, how long it took, and how many bytes had to be fetched or built for it, the first time and the second.
"""

import argparse
import runpy
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, cast

from tools.environment import ROOT, NotPrepared, prepare
from tools.free_port import free_port
from tools.runyard_cli import CommandFailed, JsonRecord, Runyard
from tools.screen import Step, say, table

SAMPLES: Final = ROOT / "samples"
EXTRAS: Final = ("server", "samples")
PORT: Final = 8642
ANY_END: Final = (0, 1, 3)
"""What `wait` may end with: completed, failed, canceled."""
LOOK_EVERY_S: Final = 0.2
PATIENCE_S: Final = 60.0
"""For the line of a log that must be there before a run is cancelled."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One command line. ``short``: options that make it small; ``ends``: the state and the reason that are expected;
    ``cancel_at``: a text of the log at which the run is cancelled (empty: it ends by itself)."""

    name: str
    manifest: str
    options: tuple[str, ...] = ()
    short: tuple[str, ...] = ()
    ends: tuple[str, str] = ("completed", "finished")
    cancel_at: str = ""

    def ended_well(self, ends: frozenset[tuple[str, str]]) -> bool:
        """As expected; where nothing enforces a memory limit, the program that takes too much ends by itself."""
        unlimited = self.ends[1] == "out_of_memory" and ends == frozenset({("failed", "nonzero_exit")})
        return unlimited or ends == frozenset({self.ends})

    def words(self, short: bool) -> list[str]:
        """Behind `runyard`; the model definition is the manifest's folder."""
        manifest = SAMPLES / self.manifest
        return ["train", str(manifest.parent), str(manifest), *self.options, *(self.short if short else ())]


def both(name: str, options: tuple[str, ...] = (), short: tuple[str, ...] = ()) -> tuple[Sample, Sample]:
    """A sample in either dialect."""
    return (
        Sample(name, f"{name}/manifest.yml", options, short),
        Sample(f"{name}, dialect two", f"{name}/manifest-ffdl.yml", options, short),
    )


def failing(name: str, ends: tuple[str, str], options: tuple[str, ...] = (), cancel_at: str = "") -> tuple[Sample, ...]:
    """One of those that are meant to fail, in either dialect."""
    return tuple(
        Sample(f"{name}{dialect}", f"failing/{name}/{file}", options, (), ends, cancel_at)
        for dialect, file in (("", "manifest.yml"), (", dialect two", "manifest-ffdl.yml"))
    )


EPOCH: Final = ("--set", "epochs=1")
GRID: Final = ("--set", "lr=0.3,0.1,0.03,0.01", "--set", "width=8,16,32", "--set", "decay=0,0.001")
ALL: Final = (
    Sample("mnist", "mnist/manifest.yml", short=("--set", "training_iters=20", "--args")),
    *both("numpy-softmax", short=EPOCH),
    Sample("metrics, three ways", "metrics/manifest.yml", ("--set", "way=file,tensorboard,log")),
    Sample("metrics, four ways", "metrics/manifest-ffdl.yml", ("--set", "way=file,tensorboard,regex,log")),
    Sample("ddp, 2 learners", "ddp/manifest.yml", short=EPOCH),
    Sample("ddp, 2 x 2 processes", "ddp/manifest-ffdl.yml", short=EPOCH),
    Sample("sweep of 24", "sweep/manifest.yml", GRID, EPOCH),
    Sample("sweep, dialect two", "sweep/manifest-ffdl.yml", (), EPOCH),
    *both("keras-npz", short=EPOCH),
    *failing("wrong-command", ("failed", "nonzero_exit")),
    *failing("missing-data", ("failed", "data_not_found"), ("--force",)),
    *failing("out-of-memory", ("failed", "out_of_memory")),
    *failing("hang", ("canceled", "canceled"), (), "daemon hangs"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one submission went. ``fetched``: bytes fetched or built for it, once for all its runs; ``seconds``: to the
    last end."""

    ids: tuple[str, ...]
    ends: frozenset[tuple[str, str]]
    seconds: float
    fetched: int


def push_data(runyard: Runyard) -> None:
    """The two buckets that the samples read."""
    digits = SAMPLES / "data" / "digits"
    runyard.ask("data", "push", str(digits), "digits")
    with TemporaryDirectory() as folder:
        target = Path(folder) / "digits.npz"
        with redirect_stdout(StringIO()):
            runpy.run_path(str(SAMPLES / "keras-npz" / "make_npz.py"))["main"](digits, target)
        runyard.ask("data", "push", str(target), "digits-npz")


def submit(runyard: Runyard, sample: Sample, short: bool) -> Outcome:
    """One submission, waited for."""
    began = time.monotonic()
    ids = cast("list[str]", runyard.ask_record(*sample.words(short))["ids"])
    if sample.cancel_at:
        cancel(runyard, ids[0], sample.cancel_at)
    runyard.ask("wait", *ids, expected=ANY_END)
    seconds = time.monotonic() - began
    told = runyard.ask_json("show", *ids)
    shown = cast("list[JsonRecord]", told if isinstance(told, list) else [told])
    ends = frozenset((str(each["state"]), str(each["reason"])) for each in shown)
    return Outcome(tuple(ids), ends, seconds, fetched(runyard, ids[0]))


def cancel(runyard: Runyard, run: str, at: str) -> None:
    """Once its log says so. Raises ``CommandFailed`` when it does not."""
    deadline = time.monotonic() + PATIENCE_S
    while at not in runyard.ask("logs", run):
        if time.monotonic() > deadline:
            raise CommandFailed(f"The log of {run} never said {at!r}.")
        time.sleep(LOOK_EVERY_S)
    runyard.ask("cancel", run)


def fetched(runyard: Runyard, run: str) -> int:
    """Bytes that had to be fetched or built before the run, and those submitted with it, could start; 0 where all was
    in the cache."""
    events = cast("list[JsonRecord]", runyard.ask_json("events", run))
    return sum(cast("int", event.get("fetched", 0)) for event in events if event["kind"] == "staged")


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 all ended as they should and nothing was fetched twice, 1 not so, 2 something was missing."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.samples", description=__doc__)
    parser.add_argument("names", nargs="*", help="only samples whose name begins so")
    parser.add_argument("--short", action="store_true", help="an epoch where there are many")
    parser.add_argument("--once", action="store_true", help="not a second time")
    parser.add_argument("--home", type=Path, default=ROOT / ".runyard", help="where the server keeps what it knows")
    options = parser.parse_args(arguments)
    names = cast("list[str]", options.names)
    chosen = [sample for sample in ALL if not names or any(sample.name.startswith(name) for name in names)]
    if not chosen:
        say(f"No sample's name begins so; there are: {', '.join(sample.name for sample in ALL)}.")
        return 2
    runyard = Runyard(cast("Path", options.home).resolve())
    try:
        prepare(EXTRAS)
        return with_service(runyard, chosen, short=cast("bool", options.short), once=cast("bool", options.once))
    except (NotPrepared, CommandFailed) as problem:
        say(str(problem))
        return 2


def with_service(runyard: Runyard, chosen: Sequence[Sample], *, short: bool, once: bool) -> int:
    """Uses the service that is up in this home, or starts one and stops it."""
    if runyard.is_up():
        say(f"uses the server that is up in {runyard.home}")
        return run_all(runyard, chosen, short=short, once=once)
    runyard.ask("up", "--detach", "--port", str(free_port(PORT)), "--fake-gpus", "4")
    try:
        return run_all(runyard, chosen, short=short, once=once)
    finally:
        runyard.ask("down", "--cancel-runs")


def run_all(runyard: Runyard, chosen: Sequence[Sample], *, short: bool, once: bool) -> int:
    """Runs them one after the other and prints the table."""
    push_data(runyard)
    rows: list[list[str]] = []
    good = True
    for sample in chosen:
        with Step(sample.name):
            outcomes = [submit(runyard, sample, short) for _ in range(1 if once else 2)]
        rows.append(row_of(sample, outcomes))
        good = good and all(sample.ended_well(each.ends) for each in outcomes)
        good = good and all(each.fetched == 0 for each in outcomes[1:])
    heads = ["sample", "runs", "ended", "seconds", "fetched"]
    say("\n" + table([*heads, *(["again, seconds", "again, fetched"] if not once else [])], rows))
    return 0 if good else 1


def row_of(sample: Sample, outcomes: Sequence[Outcome]) -> list[str]:
    """States and reasons as they were; with an exclamation mark where others were expected."""
    ends = sorted({end for outcome in outcomes for end in outcome.ends})
    words = ", ".join(state if reason in ("finished", state) else f"{state}: {reason}" for state, reason in ends)
    mark = "" if sample.ended_well(frozenset(ends)) else " (!)"
    figures = [figure for each in outcomes for figure in (f"{each.seconds:.1f}", str(each.fetched))]
    return [sample.name, str(len(outcomes[0].ids)), words + mark, *figures]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
