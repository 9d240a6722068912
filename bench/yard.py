"""An installation for the time of a measurement, driven in this process by the SDK as a user's script would."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.machine import boottime_ns
from bench.processes import Process, spent, tree
from bench.values import Untrue, check
from bench.yardstick import server_of_its_own
from runyard.client import Client, Reconnected, Run, Submission, WhichLog
from runyard.client.packing import packed
from runyard.client.waiting import fetch
from tools.environment import ROOT
from tools.runyard_cli import Runyard

PROGRAMS = Path(__file__).resolve().parent / "models"
DIGITS = ROOT / "samples" / "data" / "digits"
TOO_LONG_S = 900.0
WINDOW_S = 1.0
IDLE = 0.05
"""Of one processor, over such a window: less is nothing."""


@dataclass(slots=True)
class Batch:
    """Runs of one submission. Times of CLOCK_BOOTTIME in ns: ``called`` before the POST, ``accepted`` after its answer,
    ``finished`` when this process heard of each end. ``ended``: when each did by the server's clock, in ms. ``ways``:
    how each was started, as far as the service tells; ``why``: what it says of those that were not started warm."""

    ids: tuple[str, ...]
    called: int
    accepted: int
    finished: dict[str, int] = field(default_factory=dict[str, int])
    ended: dict[str, float] = field(default_factory=dict[str, float])
    ways: dict[str, str] = field(default_factory=dict[str, str])
    why: set[str] = field(default_factory=set[str])

    @property
    def seconds(self) -> float:
        """From the call to the last end."""
        return (max(self.finished.values()) - self.called) / 1e9

    @property
    def not_warm(self) -> str:
        """A sentence when not all runs were started warm, else empty."""
        warm = sum(way == "warm" for way in self.ways.values())
        if warm == len(self.ids):
            return ""
        because = f" ({'; '.join(sorted(self.why)[:3])})" if self.why else ""
        return f"{len(self.ids) - warm} of {len(self.ids)} runs were not started warm{because}"


class Yard:
    """An installation that is up. ``seq``: the last event that this process has heard."""

    def __init__(self, runyard: Runyard, slots: int) -> None:
        self.runyard, self.slots = runyard, slots
        self.home = runyard.home
        url, token = ((self.home / name).read_text().strip() for name in ("url", "token"))
        self.client = Client(url, token)
        self.seq = 0
        self._definitions: dict[Path, str] = {}

    def supervisor(self) -> int:
        return int(json.loads((self.home / "up.json").read_text())["pid"])

    def processes(self) -> dict[int, Process]:
        """All processes of the installation, programs among them."""
        return tree(self.supervisor())

    def definition(self, model: Path) -> str:
        """Its SHA-256, uploaded once."""
        if model not in self._definitions:
            with packed(model) as found:
                if not self.client.has_definition(found.sha256):
                    self.client.upload_definition(
                        found.path, found.sha256, mentions_config=found.mentions_config, progress=None
                    )
                self._definitions[model] = found.sha256
        return self._definitions[model]

    def push_digits(self) -> None:
        for file in sorted(DIGITS.iterdir()):
            self.client.put_object("digits", file.name, file)

    def submit(self, model: Path, manifest: str, parameters: Sequence[Mapping[str, object]] = ()) -> Batch:
        """The POST alone: code is uploaded before."""
        submission = Submission(
            manifest, self.definition(model), parameters=parameters, append_args=bool(parameters), force=True
        )
        called = boottime_ns()
        submitted = self.client.submit(submission)
        accepted = boottime_ns()
        return Batch(tuple(submitted.ids), called, accepted)

    def wait(self, batch: Batch, count: int | None = None) -> Batch:
        """Hear the events until so many (all) of the runs are final."""
        wanted, left = set(batch.ids), len(batch.ids) if count is None else count
        deadline = time.monotonic() + TOO_LONG_S
        for event in self.client.events(self.seq, deadline=deadline):
            if isinstance(event, Reconnected):
                continue
            self.seq = event.seq
            if event.run not in wanted:
                continue
            if event.kind == "running":
                batch.ways[event.run] = str(event.raw.get("way") or "")
                if batch.ways[event.run] != "warm" and event.raw.get("way_note"):
                    batch.why.add(str(event.raw["way_note"]))
            elif event.kind == "finished":
                batch.finished[event.run] = boottime_ns()
                if event.at is not None:
                    batch.ended[event.run] = event.at.timestamp() * 1e3
                left -= 1
                if left == 0:
                    break
        return batch

    def skip_to(self, run: str) -> None:
        """Wait until a run is ready, and hear nothing of what happened until then."""
        deadline = time.monotonic() + TOO_LONG_S
        while self.client.run(run).readiness == "staging":
            check(time.monotonic() < deadline, f"{run} was never ready")
            time.sleep(0.1)
        self.seq = max(event.seq for event in self.client.history(run))

    def completed(self, batch: Batch) -> list[Run]:
        """The runs, each of which must have completed."""
        runs = fetch(self.client, batch.ids)
        bad = [run for run in runs.values() if run.state != "completed"]
        if bad:
            raise Untrue(
                f"{len(bad)} of {len(runs)} runs did not complete: {bad[0].id} is {bad[0].state} ({bad[0].sentence})"
            )
        return [runs[each] for each in batch.ids]

    def run(self, model: Path, manifest: str, parameters: Sequence[Mapping[str, object]] = ()) -> Batch:
        """Submit, wait for all, and check that all completed."""
        batch = self.wait(self.submit(model, manifest, parameters))
        self.completed(batch)
        return batch

    def rest(self) -> None:
        """Wait until its processes do nothing: what ended runs leave is removed a while after their end, and is not to
        take the processors from a yardstick that is measured beside."""
        deadline, before = time.monotonic() + TOO_LONG_S, self.processes()
        while True:
            time.sleep(WINDOW_S)
            now = self.processes()
            if sum(spent(before, now).values()) < WINDOW_S * IDLE:
                return
            check(time.monotonic() < deadline, "an installation in which nothing runs did not come to rest")
            before = now

    def told(self, run: str) -> dict[str, object]:
        """The last line of a run's log that is a JSON object: how programs of the bench report."""
        lines = self.client.log(run, WhichLog()).decode().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        check(bool(found), f"the log of {run} has no report: {lines[-3:]}")
        return found[-1]

    def warmed(self, model: Path, manifest: str, parameters: Mapping[str, object], patience: float = 60.0) -> str:
        """Run the program until it is started warm, at least twice; how it was started at last."""
        deadline, way = time.monotonic() + patience, ""
        for number in range(1000):
            way = next(iter(self.run(model, manifest, [parameters]).ways.values()), "")
            if number and (way == "warm" or time.monotonic() > deadline):
                break
            if number >= 3 and way == "":
                break  # this version does not tell ways: it has none but one
            time.sleep(0.3 * bool(number))
        return way or "exec"


def manifest(program: str, **changes: object) -> str:
    """The manifest of a program of the bench; ``changes``: keys below ``runyard:``, or sizes."""
    text = (PROGRAMS / program / "manifest.yml").read_text(encoding="utf-8")
    for name in ("memory", "cpus", "gpus"):
        if name in changes:
            kept = [line for line in text.splitlines() if not line.startswith(f"{name}:")]
            text = "\n".join([*kept, f"{name}: {changes.pop(name)}"]) + "\n"
    return text + (f"runyard: {json.dumps(changes)}\n" if changes else "")


def parameters(count: int, **fixed: object) -> list[dict[str, object]]:
    """So many sets of hyper-parameters, told apart by their number."""
    return [{"n": number, **fixed} for number in range(count)]


@contextmanager
def yard(slots: int, settings: Mapping[str, object]) -> Iterator[Yard]:
    """An installation with pretended GPUs, all of which its account may use; gone afterwards."""
    with server_of_its_own(slots, settings) as runyard:
        opened = Yard(runyard, slots)
        opened.client.set_quota("default", {"gpus": slots})
        yield opened
