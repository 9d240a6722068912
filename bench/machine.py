"""The machine a figure was taken on: what it is, how busy it is, and its one clock that every process reads alike."""

from __future__ import annotations

import compileall
import os
import platform
import signal
import time
from pathlib import Path
from types import FrameType

from tools.environment import ROOT

TICKS = os.sysconf("SC_CLK_TCK")
_MIB = 1 << 20
QUIET = 0.15
"""Share of one core that the rest of the machine may take while something is measured idle."""


def end_in_order(patience_s: int = 0) -> None:
    """SIGTERM, and the end of ``patience_s`` seconds where given, unwind this process: what it started is ended too."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        signal.alarm(0)
        raise SystemExit("ended before all was measured")

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGALRM, leave)
    signal.alarm(patience_s)


def compile_ours() -> None:
    """Compile what is measured, as pip does where it installs: an environment may forbid Python to do so by itself, and
    then each start of ours compiles anew."""
    compileall.compile_dir(ROOT / "src", quiet=2)


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def cores() -> int:
    return len(os.sched_getaffinity(0))


def busy_s() -> float:
    """CPU seconds of everything on this machine since it started (``proc(5)``: user, nice, system, irq, softirq)."""
    fields = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (fields[0] + fields[1] + fields[2] + fields[5] + fields[6]) / TICKS


def load() -> float:
    return os.getloadavg()[0]


def others(seconds: float = 0.5) -> float:
    """How many cores the machine is busy with while this process does nothing."""
    busy, began = busy_s(), time.monotonic()
    time.sleep(seconds)
    return max(0.0, (busy_s() - busy) / (time.monotonic() - began))


def quiet(patience: float) -> float:
    """Wait until little else runs, no longer than ``patience`` seconds; what still ran in the end, in cores."""
    deadline = time.monotonic() + patience
    while (running := others()) > QUIET and time.monotonic() < deadline:
        pass
    return running


def touch_memory(folder: Path, size: int) -> None:
    """Leave ``size`` bytes (whole MiB) of pages free that this machine had a moment ago: a file is written and removed.

    A machine that is itself virtual gives free pages back to its host within seconds (free page reporting of Linux),
    and takes four to five times as long to write a file into pages that it has to ask for again. Without this who
    comes soon after another has removed its files is faster than who comes later.
    """
    block, path = bytes(_MIB), folder / "touched"
    with path.open("wb") as file:
        for _ in range(size // _MIB):
            file.write(block)
    path.unlink()


def describe() -> dict[str, str]:
    """What a reader wants to know of it."""
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    return {
        "processors": f"{cores()} x {_processor()}",
        "memory": f"{int(memory.split()[1]) / 1024 / 1024:.0f} GiB",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "user": "root: programs get a user id, namespaces and control groups of their own"
        if os.geteuid() == 0
        else "not root: what is not isolated here stands on each run's page",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
