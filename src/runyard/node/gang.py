"""The learners of one attempt: they begin together and end together, and the first that failed says how.

All of it is told from their folders, so that a node that was killed at any moment goes on where it was. An attempt
with one learner is a gang of one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import msgspec

from runyard.core.reasons import signal_name
from runyard.node.became import Became, Trace, began, exited, look, size_of, what_became
from runyard.node.home import AttemptFolder, Key, Record
from runyard.node.sweep import Tree
from runyard.shim.fan import FAILURE
from runyard.wire.facts import Began, Exited

PEER = "peer"
"""The cause in the exit record of a learner that was stopped because another one had failed."""
MOST_TOLD = 4096
NOTHING: Mapping[Key, Record] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Learner:
    """One learner as its folder tells. ``told_failure_ms``: since boot, when the first of its several processes failed,
    by its own word."""

    folder: AttemptFolder
    trace: Trace
    told_failure_ms: int | None = None

    @property
    def became(self) -> Became:
        """What became of it."""
        return what_became(self.trace)

    @property
    def record(self) -> Record:
        """Its exit record, empty while there is none."""
        return self.trace.exit or {}

    @property
    def failed(self) -> bool:
        """Whether its end is one that ends all: anything but exit code 0 without having been told to stop."""
        record = self.trace.exit
        return record is not None and not (
            record.get("exit_code") == 0 and record.get("cause") is None and record.get("launch_failed") is None
        )

    @property
    def cause(self) -> str | None:
        """What it was told to stop for; None where that was but the failure of another, or its own came before."""
        cause = self.record.get("cause")
        return None if cause == PEER or self.failure_ms is not None else cause

    @property
    def follows(self) -> bool:
        """Whether it was stopped for the failure of another before it failed itself."""
        return self.record.get("cause") == PEER and self.failure_ms is None

    @property
    def failure_ms(self) -> int | None:
        """``told_failure_ms`` where that can be: while its program ran, and before it was told to stop."""
        record, at = self.record, self.told_failure_ms
        begin, end = record.get("boottime_started_ms"), record.get("boottime_stopped_ms") or self.ended_ms
        return at if at is not None and begin is not None and int(begin) <= at <= int(end) else None

    @property
    def ended_ms(self) -> int:
        """Since boot, when its program ended."""
        return int(self.record.get("boottime_ended_ms") or 0)

    @property
    def cause_ms(self) -> int:
        """Since boot, when that came to pass of which it ended: its failure, the word to stop, or the end itself."""
        if self.failure_ms is not None:
            return self.failure_ms
        return int((self.record.get("cause") and self.record.get("boottime_stopped_ms")) or self.ended_ms)

    @property
    def unstarted(self) -> bool:
        """Whether its program could not be started."""
        return self.record.get("launch_failed") is not None


@dataclass(frozen=True, slots=True)
class Gang:
    """The learners of an attempt, the first one first."""

    learners: tuple[Learner, ...]

    @property
    def became(self) -> Became:
        """What became of all of them: running until the last is gone, then lost if one is. Some that were never
        started beside others that were are of a gang that was broken off at its start: it has yet to be ended."""
        each = {learner.became for learner in self.learners}
        if len(each) == 1:
            return each.pop()
        if Became.running in each or Became.prepared in each:
            return Became.running
        return Became.lost

    def those(self, became: Became) -> list[Learner]:
        """The learners of which something became."""
        return [learner for learner in self.learners if learner.became is became]

    def began(self) -> Began | None:
        """The fact that all have begun, once they have: at the time when the last did."""
        facts = [began(each.folder, each.trace.started) for each in self.learners if each.trace.started is not None]
        if len(facts) < len(self.learners) or self.those(Became.lost):
            return None
        return max(facts, key=lambda fact: fact.at_ms)

    def first(self) -> Learner | None:
        """The learner that failed first, None where none has failed.

        One that could not be started comes before all: they start together or not at all. Then the times decide. Only
        where the first one failed by itself, and the kernel killed something of another for want of memory, that is
        taken for the cause: the kernel's word has no time, and the others of a gang fail at once when one is killed.
        """
        failed = [learner for learner in self.learners if learner.failed]
        unstarted = [learner for learner in failed if learner.unstarted]
        by_themselves = [learner for learner in failed if not learner.follows]
        if not failed:
            return None
        first = _earliest(unstarted or by_themselves or failed)
        killed = [learner for learner in failed if learner.record.get("oom_kills")]
        if killed and not unstarted and first.cause is None:
            return _earliest(killed)
        return first

    def exited(self) -> Exited:
        """The fact in the exit records of all."""
        first = self.first()
        told = first or self.learners[0]
        fact = exited(told.folder, told.record)
        if len(self.learners) == 1:
            return fact
        all_facts = [exited(learner.folder, learner.record) for learner in self.learners]
        peaks = [each.peak_memory_mib for each in all_facts if each.peak_memory_mib is not None]
        cause = told.cause
        return msgspec.structs.replace(
            fact,
            cause=cause,
            at_ms=max(each.at_ms for each in all_facts),
            log_bytes=size_of(self.learners[0].folder.log("training-log")),
            tamper_proof=all(each.tamper_proof for each in all_facts),
            peak_memory_mib=max(peaks, default=None),
            detail=fact.detail
            if first is None or cause is not None
            else f"Learner {first.folder.learner} {_how(first)}.",
        )

    def note(self, learner: Learner) -> str:
        """What a learner's log says at its end of another's failure, or of its own where that came first."""
        lost, first = self.those(Became.lost), self.first()
        if len(self.learners) == 1 or learner in lost:
            return ""
        if lost:
            number, how = lost[0].folder.learner, "was lost with the process that watched it"
        elif first is None or first.cause is not None:
            return ""
        else:
            number, how = first.folder.learner, _how(first)
        stopped = " This one was stopped then." if learner.follows and learner is not first else ""
        return f"Learner {number} of {len(self.learners)} {how}.{stopped}"


def see(folders: Sequence[AttemptFolder], unwritten: Mapping[Key, Record] = NOTHING) -> Gang:
    """Look at the folders of an attempt's learners. ``unwritten``: exit records that no disk had room for."""
    learners: list[Learner] = []
    for folder in folders:
        trace = look(folder)
        if trace.exit is None and folder.key in unwritten:
            trace = replace(trace, exit=unwritten[folder.key])
        several = len(folders) > 1 and trace.exit is not None
        learners.append(Learner(folder, trace, _told_failure(folder) if several else None))
    return Gang(tuple(learners))


def _earliest(learners: Sequence[Learner]) -> Learner:
    """Whose cause came first, by the machine's own clock where all are of one start of it."""
    boots = {learner.record.get("boot_id") for learner in learners}
    if len(boots) == 1 and None not in boots:
        return min(learners, key=lambda learner: learner.cause_ms)
    return min(learners, key=lambda learner: int(learner.record.get("ended_at_ms") or 0))


def _told_failure(folder: AttemptFolder) -> int | None:
    """When the first of a learner's processes failed, as the program that started them has written down. The learner's
    program may have written anything there: it says when it failed itself, and nothing of anybody else."""
    try:
        with Tree(folder.path, "own") as tree:
            descriptor = tree.open(FAILURE)
            try:
                text = os.read(descriptor, MOST_TOLD)
            finally:
                os.close(descriptor)
        return int(msgspec.json.decode(text, type=dict[str, int])["boottime_ms"])
    except (OSError, KeyError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _how(learner: Learner) -> str:
    """How a learner failed, to follow its number in a sentence."""
    fact = exited(learner.folder, learner.record)
    if fact.launch_error is not None:
        return f"could not be started: {fact.launch_error.rstrip('.')}"
    if fact.oom_kills:
        return "failed first: it went over its memory limit"
    if fact.signal is not None:
        return f"failed first: signal {signal_name(fact.signal)}"
    return f"failed first: exit code {fact.exit_code}"
