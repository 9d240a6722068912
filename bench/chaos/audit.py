"""What became of it all: every run, attempt, line, point and bill, held against what the programs witnessed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from bench.chaos.hours import Hours
from bench.chaos.load import KINDS, Asked
from bench.chaos.place import Place
from runyard.adapters.clock import DRAWN
from runyard.client import Run, WhichLog
from runyard.core.metering import cost
from runyard.core.reasons import Reason
from runyard.core.resources import Price, Resources

PRICE = Price(1_500_000, 250_000, 125_000)
SLACK_MS = 20
"""Gaps within a slot, beside what the server's clock may have been drawn to the wall clock within a campaign."""
NEVER_BEGAN = {reason.value for reason in (Reason.launch_failed, Reason.gpu_taken, Reason.not_ready)}
"""Ends of attempts of which no program has begun."""
NEAR_MS = 3000
"""Bills of a slot so near are told of together."""
LINE = re.compile(rb"line (\d+) of (\S+)/(\d+)$")
FAULTS = ("lost", "doubled", "lines", "points", "bill", "capacity", "left over")


@dataclass(slots=True)
class Witness:
    """What one attempt noted of itself; times in ms of the clock that runs on during sleep."""

    lines: list[int] = field(default_factory=list[int])
    points: list[int] = field(default_factory=list[int])
    begun: int | None = None
    last: int = 0
    code: int | None = None
    doubled: bool = False

    @staticmethod
    def read(path: Path) -> Witness:
        found = Witness()
        for line in path.read_text().splitlines() if path.exists() else ():
            words = line.split()
            if words[0] == "doubled":
                found.doubled = True
                continue
            number, found.last = int(words[1]), int(words[2])
            if words[0] == "begin":
                found.begun = found.last
            elif words[0] == "end":
                found.code = number
            else:
                (found.lines if words[0] == "line" else found.points).append(number)
        return found


@dataclass(slots=True)
class Verdict:
    """Sentences by kind of fault, and how much was looked at."""

    faults: dict[str, list[str]] = field(default_factory=lambda: {name: list[str]() for name in FAULTS})
    seen: Counter[str] = field(default_factory=Counter[str])
    outcomes: Counter[str] = field(default_factory=Counter[str])

    def say(self, fault: str, sentence: str) -> None:
        self.faults[fault].append(sentence)

    @property
    def clean(self) -> bool:
        return not any(self.faults.values())


class Audit:
    """Looks at everything once the campaign is over and all runs are final."""

    def __init__(self, place: Place, asked: Asked, programs: set[tuple[str, int]], hours: Hours) -> None:
        self.place, self.asked, self.programs, self.hours = place, asked, programs, hours
        self.verdict = Verdict()

    def all(self, runs: Sequence[Run], elapsed_ms: int) -> Verdict:
        """``elapsed_ms``: how long the campaign took, beyond which nothing can have held a slot."""
        self._accepted(runs)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self._run, runs))
        self._bills(elapsed_ms)
        return self.verdict

    def _accepted(self, runs: Sequence[Run]) -> None:
        database = self.place.database()
        stored = {row[0] for row in database.execute("SELECT id FROM runs WHERE name = 'chaos'")}
        kinds = database.execute(
            "SELECT run_id, count(*) FROM events WHERE kind = 'finished' GROUP BY run_id HAVING count(*) <> 1"
        ).fetchall()
        database.close()
        for run in set(self.asked.kinds) - stored:
            self.verdict.say("lost", f"{run} was accepted and is not there")
        for run in stored - set(self.asked.kinds):
            self.verdict.say("doubled", f"{run} is there and was told to nobody: a repeated request made it")
        for run, count in kinds:
            self.verdict.say("doubled", f"{run} finished {count} times")
        self.verdict.seen["runs"] = len(runs)

    def _run(self, run: Run) -> None:
        witnesses = {each.number: self._witness(run.id, each.number) for each in run.attempts}
        self._extra(run, witnesses)
        self._outcome(run, witnesses)
        self._overlaps(run, witnesses)
        for number, witness in witnesses.items():
            self._log(run, number, witness)
        self._points(run, [witnesses[number] for number in sorted(witnesses)])
        self.verdict.seen["attempts"] += len(run.attempts)
        self.verdict.outcomes[f"{run.state}: {run.reason or '-'}"] += 1

    def _witness(self, run: str, number: int) -> Witness:
        return Witness.read(self.place.witness / f"{run}.{number}")

    def _extra(self, run: Run, told: dict[int, Witness]) -> None:
        for path in self.place.witness.glob(f"{run.id}.[0-9]*"):
            if int(path.suffix[1:]) not in told:
                self.verdict.say("doubled", f"{run.id}: attempt {path.suffix[1:]} ran, and the server tells of none")

    def _outcome(self, run: Run, witnesses: dict[int, Witness]) -> None:
        kind = KINDS[self.asked.kinds[run.id]]
        last = witnesses.get(max(witnesses, default=0), Witness())
        problem = ""
        if run.state == "completed":
            problem = "" if last.code == 0 and kind.code == 0 else f"its program ended with {last.code}"
        elif run.state == "canceled":
            problem = "" if run.id in self.asked.canceled else "nobody canceled it"
        elif run.reason == "nonzero_exit":
            problem = "" if kind.code and last.code == kind.code else f"its program ended with {last.code}"
        elif run.reason == "killed_by_signal":
            own = sum((run.id, number) in self.programs for number in witnesses)
            tries = 1 + int(str(kind.options.get("max_retries", 0)))
            problem = "" if own >= tries else f"{own} of its programs were killed, and it may have {tries} tries"
        else:
            problem = run.sentence
        if problem:
            self.verdict.say("lost", f"{run.id} ({self.asked.kinds[run.id]}) is {run.state}, {run.reason}: {problem}")

    def _overlaps(self, run: Run, witnesses: dict[int, Witness]) -> None:
        begun = sorted((w.begun, w.last, n) for n, w in witnesses.items() if w.begun is not None)
        for (_, before, one), (begin, _, other) in pairwise(begun):
            if begin < before:
                self.verdict.say("doubled", f"{run.id}: attempts {one} and {other} ran at the same time")
        if any(each.doubled for each in witnesses.values()):
            self.verdict.say("doubled", f"{run.id}: a program found another one of its run alive")
        said = {each.number: each.reason for each in run.attempts}
        for number in [n for n, w in witnesses.items() if w.begun is not None and said.get(n) in NEVER_BEGAN]:
            self.verdict.say("doubled", f"{run.id}: attempt {number} ran, and the server has it as {said[number]}")
        again = [n for n, w in witnesses.items() if w.code == 0 and said.get(n) in {"finished", "nonzero_exit"}]
        if len(again) > 1:
            self.verdict.say("doubled", f"{run.id}: attempts {again} all count as having ended well")

    def _log(self, run: Run, number: int, witness: Witness) -> None:
        text = self.place.yard.client.log(run.id, WhichLog(attempt=number)) if witness.begun is not None else b""
        found = [match for line in text.splitlines() if (match := LINE.match(line))]
        numbers = [int(match[1]) for match in found]
        self.verdict.seen["lines"] += len(numbers)
        foreign = [m[0].decode() for m in found if (m[2].decode(), int(m[3])) != (run.id, number)]
        if foreign or not same(numbers, witness.lines, ended=witness.code is not None):
            what = foreign[:1] or difference(numbers, witness.lines)
            self.verdict.say("lines", f"{run.id}/{number} ({self.asked.kinds[run.id]}): {what}")

    def _points(self, run: Run, witnesses: Sequence[Witness]) -> None:
        if not any(each.points for each in witnesses):
            return
        series = self.place.yard.client.metrics(run.id, points=True).series
        steps = [step for each in series for step in each.steps if step is not None]
        self.verdict.seen["points"] += len(steps)
        if not follows(steps, list(witnesses)):
            told = difference(steps, [point for one in witnesses for point in one.points])
            self.verdict.say("points", f"{run.id} ({self.asked.kinds[run.id]}): {told}; {len(witnesses)} attempts")

    def _bills(self, elapsed_ms: int) -> None:
        database = self.place.database()
        ledger = {(row[0], row[1]): row[2:] for row in database.execute(
            "SELECT run_id, attempt, from_ms, to_ms, gpu_ms, cpu_ms, gb_ms, cost, waste FROM ledger"
        )}  # fmt: skip
        attempts = database.execute(
            "SELECT run_id, number, assigned_ms, released_ms, slots, ending, way, node_id FROM attempts"
        ).fetchall()
        database.close()
        self.verdict.seen["bills"] = len(ledger)
        resources = Resources(1, 100, 128)
        for run, number, assigned, released, _, ending, way, _ in attempts:
            entry = ledger.pop((run, number), None)
            slots_held = way != "grant" and json.loads(ending or "{}").get("began", True)
            if released is None:
                self.verdict.say("bill", f"{run}/{number} still holds its slot")
            elif entry is None:
                if self._witness(run, number).begun is not None or (slots_held and released > assigned):
                    self.verdict.say("bill", f"{run}/{number} is on no bill")
            else:
                self._entry(run, number, entry, released - assigned, resources)
        for run, number in ledger:
            self.verdict.say("bill", f"{run}/{number} is billed, and there is no such attempt")
        spans = [(a, r, s, f"{run}/{n}", node) for run, n, a, r, s, _, _, node in attempts if r is not None]
        self._room(spans, elapsed_ms)

    def _entry(self, run: str, number: int, entry: tuple[int, ...], held: int, resources: Resources) -> None:
        begin, end, gpu, cpu, gb, paid, waste = entry
        due = 0 if waste else cost(resources, held, PRICE)
        if (end - begin, gpu, cpu, gb, paid) != (held, held, held // 10, held // 8, due):
            self.verdict.say("bill", f"{run}/{number} held its slot {held} ms, and is billed {entry}")

    def _room(self, spans: Iterable[tuple[int, int, str, str, str]], elapsed_ms: int) -> None:
        """No slot has two at once, and no bill is longer than the campaign was."""
        by_slot: dict[str, list[tuple[int, int, str]]] = {}
        for begin, end, slots, name, node in spans:
            if end - begin > elapsed_ms:
                self.verdict.say("bill", f"{name} is billed {end - begin} ms of a campaign of {elapsed_ms} ms")
            for slot in json.loads(slots):
                by_slot.setdefault(f"{node} {slot}", []).append((begin, end, name))
        for slot, held in by_slot.items():
            held.sort()
            if len(by_slot) > self.place.yard.slots:
                self.verdict.say("capacity", f"there are {len(by_slot)} slots")
            for (_, before, one), (begin, _, other) in pairwise(held):
                if begin < before:
                    self.verdict.say("capacity", f"slot {slot} was {one}'s and {other}'s for {before - begin} ms")
            self._covered(held, SLACK_MS + round(elapsed_ms * DRAWN))
            if sum(end - begin for begin, end, _ in held) > elapsed_ms:
                self.verdict.say("bill", f"slot {slot} is billed for longer than the campaign's {elapsed_ms} ms")

    def _covered(self, held: Sequence[tuple[int, int, str]], slack_ms: int) -> None:
        """What ran in a slot is on a bill of that slot. (One that its node started by itself, in the room of another of
        its account, is billed from when the server heard of it, and the other one until then.)"""
        for _, _, name in held:
            witness = Witness.read(self.place.witness / name.replace("/", "."))
            if witness.begun is None:
                continue
            at = self.hours.time_of(witness.begun) + slack_ms
            for begin, end, _ in held:
                if begin <= at <= end:
                    at = max(at, end + SLACK_MS)
            if at < self.hours.time_of(witness.last) - slack_ms:
                self.verdict.say(
                    "bill", f"{name} ran {witness.last - witness.begun} ms: {self._why(witness, at, held)}"
                )

    def _why(self, witness: Witness, at: int, held: Sequence[tuple[int, int, str]]) -> str:
        """What can be said of a program that is not all on a bill: from when on, and what its slot was billed for."""
        begun, last = (self.hours.time_of(each) for each in (witness.begun or 0, witness.last))
        around = [
            (f"{b - begun:+}", f"{e - begun:+}", n) for b, e, n in held if b <= last + NEAR_MS and e >= begun - NEAR_MS
        ]
        clock = self.hours.around(witness.begun or 0)
        return f"not billed from {at - begun} ms after its begin on; its slot is billed for {around}; {clock}"


def follows(steps: list[int], witnesses: Sequence[Witness]) -> bool:
    """Whether the points are those that were noted, attempt after attempt. A killed program may have written one more
    than it could note."""
    if not witnesses:
        return not steps
    first, count = witnesses[0], len(witnesses[0].points)
    if steps[:count] != first.points:
        return False
    if follows(steps[count:], witnesses[1:]):
        return True
    torn = first.code is None and bool(first.lines) and steps[count : count + 1] == first.lines[-1:]
    return torn and follows(steps[count + 1 :], witnesses[1:])


def same(found: list[int], noted: list[int], *, ended: bool) -> bool:
    """Each that was noted once and in order; a killed program may have written one more than it could note."""
    if found == noted:
        return True
    return not ended and found[:-1] == noted and (not noted or found[-1] == noted[-1] + 1)


def difference(found: list[int], noted: list[int]) -> str:
    lost, extra = list((Counter(noted) - Counter(found)).elements()), list((Counter(found) - Counter(noted)).elements())
    return f"{len(noted)} noted, {len(found)} there; lacking {lost[:8]}, too many {extra[:8]}"
