"""Runs that do nothing: what was seen of them, for how long nothing was, and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from runyard.core.spec import Options

CPU_PERCENT: Final = 2
"""Less of one CPU than this counts as nothing: threads that wait for work look at their clocks."""
LEAST_CPU_MS: Final = 20
"""Two ticks of the clock by which some kernels count."""
ENOUGH_CPU_MS: Final = 1200
"""So much counts, however long it took."""


class Quiet(StrEnum):
    """How a run does nothing. ``idle``: it never has done anything that could be seen, but start; ``hung``: it has
    logged, told metrics or used its GPUs before, and does so no longer."""

    idle = "idle"
    hung = "hung"


class Then(StrEnum):
    """What follows when a run is found quiet."""

    tell = "tell"
    requeue = "requeue"
    stop = "stop"


@dataclass(frozen=True, slots=True)
class IdleRule:
    """A run that does nothing for ``after_ms`` (0: for however long) is told of, and ``then``. It waits again at most
    ``requeues`` times, and is stopped for good the next time."""

    after_ms: int = 30 * 60_000
    then: Then = Then.tell
    requeues: int = 3


DEFAULT_RULE: Final = IdleRule()


def rule_of(options: Options, house: IdleRule) -> IdleRule:
    """What holds for a run: its manifest's word, else the operator's."""
    after = house.after_ms if options.idle_after_ms is None else options.idle_after_ms
    return IdleRule(after, Then(options.idle_then) if options.idle_then else house.then, house.requeues)


@dataclass(frozen=True, slots=True)
class Signs:
    """What is seen of a program at one moment. ``at_ms``: of a clock that nobody sets; ``log`` and ``points``: bytes
    of its logs and metrics so far; ``cpu_ms``: what its processes have used; ``gpu``: per cent of its GPUs' time now.
    None where it is not known."""

    at_ms: int
    log: int
    points: int
    cpu_ms: int | None = None
    gpu: int | None = None


@dataclass(frozen=True, slots=True)
class Course:
    """What looks at a program have shown up to now. ``quiet_ms``: for so long nothing has been seen of it; ``worked``:
    there was progress before."""

    last: Signs
    quiet_ms: int = 0
    worked: bool = False


def begun(signs: Signs) -> Course:
    """The first look."""
    return Course(signs, 0, signs.log > 0 or signs.points > 0 or bool(signs.gpu))


def seen(course: Course, signs: Signs, most_ms: int) -> Course:
    """One more look. ``most_ms``: between two looks no more than this counts as quiet: nobody looked meanwhile, the
    machine may have slept."""
    last = course.last
    progress = signs.log != last.log or signs.points != last.points or bool(signs.gpu)
    elapsed = max(0, signs.at_ms - last.at_ms)
    quiet = 0 if progress or _used_cpu(last, signs, elapsed) else course.quiet_ms + min(elapsed, most_ms)
    return Course(signs, quiet, course.worked or progress)


def _used_cpu(last: Signs, now: Signs, elapsed: int) -> bool:
    if now.cpu_ms is None or last.cpu_ms is None:
        return now.cpu_ms is not None  # it was not asked for while there was progress
    return abs(now.cpu_ms - last.cpu_ms) >= max(LEAST_CPU_MS, min(elapsed * CPU_PERCENT // 100, ENOUGH_CPU_MS))


def judge(course: Course, after_ms: int) -> Quiet | None:
    """Whether a program is quiet by now. ``after_ms`` 0: it never is."""
    if not after_ms or course.quiet_ms < after_ms:
        return None
    return Quiet.hung if course.worked else Quiet.idle


_WORDS: Final = {
    Quiet.idle: "It has done nothing yet",
    Quiet.hung: "Nothing more is seen of it",
}


def sentence(kind: Quiet, quiet_ms: int) -> str:
    """What is told of a quiet run."""
    minutes = quiet_ms // 60_000
    for_long = f"{minutes} min" if minutes else f"{quiet_ms // 1000} s"
    return f"{_WORDS[kind]} ({kind.value}): no log, no metric, no CPU and no GPU use for {for_long}."
