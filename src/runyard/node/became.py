"""What became of an attempt, told from its folder alone: so that a node that was killed derives every fact again."""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass
from enum import Enum
from functools import cache

import msgspec

from runyard.core.reasons import Reason
from runyard.core.run import StopCause
from runyard.node.home import AttemptFolder, Record, read_record, write_whole
from runyard.wire.facts import Began, Exited, Lost


@dataclass(frozen=True, slots=True)
class Early:
    """Why a program never began. ``cause``: it was stopped before; ``error``: it could not be started, in a sentence,
    and ``reason``: the name of a :class:`runyard.core.reasons.Reason` where that is the user's to mend."""

    cause: str | None = None
    error: str | None = None
    reason: str = ""


class Became(Enum):
    """The four things that can have become of an attempt with a folder."""

    prepared = "prepared"
    running = "running"
    exited = "exited"
    lost = "lost"


@dataclass(frozen=True, slots=True)
class Trace:
    """What is seen in an attempt's folder. ``alive``: a shim holds its lock."""

    alive: bool
    started: Record | None
    exit: Record | None


def look(folder: AttemptFolder) -> Trace:
    """Read an attempt's folder. The lock is asked first: a shim that lets go of it has written its record before."""
    alive = is_held(folder.lock)
    return Trace(alive, read_record(folder.started), read_record(folder.exit))


def is_held(lock: str) -> bool:
    """Whether somebody holds a lock file."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def what_became(trace: Trace) -> Became:
    """Judge a trace. Without a start record nothing of the user's has run, so that starting is still safe."""
    if trace.exit is not None:
        return Became.exited
    if trace.alive:
        return Became.running
    return Became.prepared if trace.started is None else Became.lost


@cache
def boot_id() -> str:
    """The id of this start of the machine."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def now_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


def clock_ms() -> int:
    """Milliseconds since the machine was started, those in which it slept too: nobody sets this clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


STEP_MS = 100
"""A wall clock that is now as far ahead of the other one as it was, but for less than this, was not set meanwhile."""


def wall_ms(record: Record, wall: str, clock: str) -> int | None:
    """What the wall clock, as it is now, would have shown at a moment that a record tells by two clocks; None: it tells
    of none. A wall clock that was set meanwhile puts nothing on a bill and takes nothing from it."""
    shown, told = record.get(wall), record.get(clock)
    if not isinstance(shown, int) or not isinstance(told, int) or record.get("boot_id") != boot_id():
        return shown
    would_show = told + now_ms() - clock_ms()
    return shown if abs(would_show - shown) < STEP_MS else would_show


def began(folder: AttemptFolder, started: Record) -> Began:
    """The fact in a start record."""
    way, note = (str(started.get(name) or "") for name in ("way", "way_note"))
    note = " ".join(filter(None, [note, *not_isolated(started)]))
    at_ms = wall_ms(started, "started_at_ms", "boottime_ms")
    return Began(folder.run, folder.number, int(started["started_at_ms"] if at_ms is None else at_ms), way, note)


def not_isolated(started: Record) -> list[str]:
    """Sentences on what of a program's isolation could not be had on this machine, from its start record."""
    group: Record = started.get("cgroup") or {}
    sentences: list[str | None] = [*(started.get("missing") or ()), group.get("missing")]
    return [f"Not isolated: {sentence}" for sentence in sentences if sentence]


def lost(folder: AttemptFolder, started: Record, boot: str) -> Lost:
    """The fact of a start record without an end, nothing of the program being alive."""
    if started.get("boot_id") != boot:
        return Lost(folder.run, folder.number, Reason.machine_restarted, "The machine restarted while the program ran.")
    detail = "The process that watches the program ended without a record."
    errors = _tail(folder.shim_errors)
    return Lost(folder.run, folder.number, Reason.shim_lost, f"{detail} It said: {errors}" if errors else detail)


def exited(folder: AttemptFolder, record: Record) -> Exited:
    """The fact in an exit record. The log's size is that of the file, which has the closing lines by now."""
    failed = record.get("launch_failed")
    peak = record.get("memory_peak_bytes")
    return Exited(
        run=folder.run,
        attempt=folder.number,
        at_ms=int(wall_ms(record, "ended_at_ms", "boottime_ended_ms") or now_ms()),
        exit_code=record.get("exit_code"),
        signal=record.get("signal"),
        cause=record.get("cause"),
        oom_kills=int(record.get("oom_kills") or 0),
        launch_error=None if failed is None else str(failed.get("message") or "The program could not be started."),
        log_bytes=size_of(folder.log("training-log")),
        tamper_proof=bool(record.get("tamper_proof")),
        launch_reason="" if failed is None else str(failed.get("reason") or ""),
        peak_memory_mib=None if peak is None else -(-int(peak) // (1 << 20)),
        detail=stopped_for(folder, record),
        gpu_error=gpu_error_before(folder, record),
    )


def gpu_error_before(folder: AttemptFolder, record: Record) -> str:
    """The hardware error of a GPU after which a program failed by itself, in a sentence; empty where there was none."""
    if record.get("cause") is not None or record.get("exit_code") == 0 or record.get("launch_failed") is not None:
        return ""
    found = read_record(folder.gpu_error)
    if found is None or int(found["at_ms"]) > int(record.get("ended_at_ms") or 0):
        return ""
    return str(found["detail"])


def stopped_for(folder: AttemptFolder, record: Record) -> str:
    """Why the node itself ended a program: a sentence, empty when it did not, or when the program's own end came
    first."""
    if record.get("cause") != StopCause.disk_limit:
        return ""
    try:
        with open(folder.stopped_for, encoding="utf-8") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def end_without_program(folder: AttemptFolder, early: Early) -> Record:
    """Write the exit record of a learner whose program never began, and return it; one that is there stands."""
    record = read_record(folder.exit)
    if record is None:
        record = record_without_program(folder, early)
        write_record(folder, record)
    return record


def write_record(folder: AttemptFolder, record: Record) -> None:
    """Put an exit record on the disk. Raises ``OSError``."""
    write_whole(folder.exit, msgspec.json.encode(record) + b"\n", lasting=True)


def record_without_program(folder: AttemptFolder, early: Early) -> Record:
    """The exit record of a learner whose program never began."""
    failed = {"stage": "node", "errno": None, "message": early.error, "reason": early.reason}
    return {
        "attempt": f"{folder.run}/{folder.number}",
        "exit_code": None,
        "signal": None,
        "cause": early.cause,
        "launch_failed": None if early.error is None else failed,
        "ended_at_ms": now_ms(),
        "boottime_ended_ms": clock_ms(),
        "boot_id": boot_id(),
        "log_bytes": size_of(folder.log("training-log")),
        "tamper_proof": os.geteuid() == 0,
    }


def size_of(path: str) -> int:
    """Bytes of a file, 0 when there is none."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _tail(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()[-500:].strip()
    except FileNotFoundError:
        return ""
