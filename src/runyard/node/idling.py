"""While programs run: whether anything is seen of them, by few cheap reads at long intervals."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from runyard.core.idle import Course, Quiet, Signs, begun, judge, seen
from runyard.node.became import boot_id, now_ms, size_of
from runyard.node.home import AttemptFolder, Home, Record, read_record, say, write_whole
from runyard.node.lanes import do_safely
from runyard.node.prepare import read_order
from runyard.node.watch import Watch
from runyard.shim.cgroups import members
from runyard.shim.processes import descendants, read
from runyard.wire import facts

LOOK_EVERY_S: Final = 60.0
"""Between two looks at a program, or a fifth of what it may be quiet for, if that is less."""
ROUND_S: Final = 5.0
"""Between two rounds: a new program is noticed so late at most."""
LEAST_S: Final = 0.2
MOST_GAPS: Final = 3
TICK_MS: Final = 1000 / os.sysconf("SC_CLK_TCK")

Attempt = tuple[str, int]


class Known(msgspec.Struct, frozen=True):
    """What is kept of an attempt of which nothing has been seen for a while. ``told``: what the server was told of it
    (empty: that it does something again), since ``since_ms``."""

    boot: str
    course: Course
    told: str = ""
    since_ms: int = 0


@dataclass(slots=True)
class Looked:
    """An attempt that is looked at. ``due_s``: when next, by the monotonic clock; ``kept``: a file tells of it."""

    folders: Sequence[AttemptFolder]
    after_ms: int
    course: Course
    due_s: float
    told: str = ""
    since_ms: int = 0
    kept: bool = False

    @property
    def every_s(self) -> float:
        """Seconds between two looks."""
        return max(LEAST_S, min(LOOK_EVERY_S, self.after_ms / 5000))

    def fact(self) -> facts.Quiet:
        """What is told of it."""
        first = self.folders[0]
        return facts.Quiet(first.run, first.number, self.told, self.since_ms)


class Idling:
    """One thread over all programs that run. ``busy``: per cent of the time of an attempt's own GPUs in which they
    computed of late, None where nobody can tell; ``tell``: sends a fact."""

    def __init__(
        self,
        home: Home,
        watch: Watch,
        busy: Callable[[AttemptFolder], int | None],
        tell: Callable[[facts.Fact], None],
    ) -> None:
        self._home = home
        self._watch = watch
        self._busy = busy
        self._tell = tell
        self._boot = boot_id()
        self._looked: dict[Attempt, Looked] = {}

    def start(self) -> None:
        """Begin, with whatever runs already."""
        threading.Thread(target=self._for_ever, name="idle", daemon=True).start()

    def facts(self) -> Iterator[facts.Fact]:
        """What has been told, to be told again at every connect."""
        for each in list(self._looked.values()):
            if each.kept:
                yield each.fact()

    def _for_ever(self) -> None:
        while True:
            do_safely(self.look)
            due = min((each.due_s for each in self._looked.values()), default=time.monotonic() + ROUND_S)
            time.sleep(max(0.05, min(ROUND_S, due - time.monotonic())))

    def look(self) -> None:
        """Look at those that are due."""
        living = self._watch.watched()
        found = {key: self._looked.get(key) or self._new(*key) for key in living}
        self._looked = {key: each for key, each in found.items() if each is not None}
        for each in self._looked.values():
            if each.due_s <= time.monotonic():
                each.due_s = time.monotonic() + each.every_s
                self._look_at(each)

    def _new(self, run: str, attempt: int) -> Looked | None:
        """An attempt that is looked at from now on, or goes on to be; None: nobody wants that, or it has not begun."""
        folders = self._home.learners(run, attempt)
        order = read_order(folders[0])
        if order is None or not order.idle_ms or not os.path.exists(folders[0].started):
            return None
        made = Looked(folders, order.idle_ms, begun(_written(folders)), 0.0)
        made.due_s = time.monotonic() + made.every_s
        known = self._recalled(folders[0])
        if known is not None:
            made.course, made.told, made.since_ms, made.kept = known.course, known.told, known.since_ms, True
        return made

    def _look_at(self, each: Looked) -> None:
        signs = self._signs(each.folders, each.course.last)
        each.course = seen(each.course, signs, round(each.every_s * 1000 * MOST_GAPS))
        kind = judge(each.course, each.after_ms)
        changed = (kind or "") != each.told
        if changed:
            each.told = kind or ""
            each.since_ms = now_ms() - each.course.quiet_ms
        if each.course.quiet_ms or changed or each.kept:
            self._keep(each)
        if changed:
            say(f"{each.folders[0].name}: {_said(kind)}")
            self._tell(each.fact())

    # ---------------------------------------------------------------------------------------------------------- signs

    def _signs(self, folders: Sequence[AttemptFolder], last: Signs) -> Signs:
        """What is seen now. Processors and GPUs are asked only where logs and metrics tell nothing."""
        signs = _written(folders)
        if (signs.log, signs.points) != (last.log, last.points):
            return signs
        return replace(signs, cpu_ms=cpu_of(folders), gpu=self._busy(folders[0]))

    def _keep(self, each: Looked) -> None:
        known = Known(self._boot, each.course, each.told, each.since_ms)
        try:
            write_whole(each.folders[0].idle, msgspec.json.encode(known))
            each.kept = True
        except OSError as error:  # it was released just now, or the disk is full: the next look tries again
            say(f"What is seen of {each.folders[0].name} could not be kept: {error.strerror}.")

    def _recalled(self, folder: AttemptFolder) -> Known | None:
        try:
            with open(folder.idle, "rb") as file:
                known = msgspec.json.decode(file.read(), type=Known)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return known if known.boot == self._boot else None


def _written(folders: Sequence[AttemptFolder]) -> Signs:
    """What an attempt has written up to now."""
    log = sum(size_of(folder.log("training-log")) for folder in folders)
    points = sum(size_of(folder.spool) for folder in folders)
    return Signs(time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000, log, points)


def _said(kind: Quiet | None) -> str:
    return "it does something again." if kind is None else f"nothing is seen of it any more ({kind.value})."


def cpu_of(folders: Sequence[AttemptFolder]) -> int | None:
    """Milliseconds of processor time of all that runs of an attempt; None where that cannot be told."""
    known = [each for each in map(_cpu_of_learner, folders) if each is not None]
    return sum(known) if known else None


def _cpu_of_learner(folder: AttemptFolder) -> int | None:
    started = read_record(folder.started)
    if started is None:
        return None
    group: Record = started.get("cgroup") or {}
    groups: list[str] = list(group.get("folders") or ())
    for folder_of_group in groups:
        if (told := _of_group(folder_of_group)) is not None:
            return told
    living = members(groups) if groups else descendants(int(started["shim_pid"]))
    return round(sum(_of_process(pid) for pid in living) * TICK_MS)


def _of_group(group: str) -> int | None:
    """What the kernel has counted for a control group (admin-guide/cgroup-v2, admin-guide/cgroup-v1/cpuacct)."""
    try:
        for line in read(f"{group}/cpu.stat").splitlines():
            if line.startswith(b"usage_usec "):
                return int(line.split()[1]) // 1000
        return int(read(f"{group}/cpuacct.usage")) // 1_000_000
    except (OSError, ValueError):
        return None


def _of_process(pid: int) -> int:
    """Clock ticks of a process and of its children that it has collected (proc(5), /proc/PID/stat)."""
    try:
        return sum(int(field) for field in read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[11:15])
    except (OSError, ValueError):
        return 0
