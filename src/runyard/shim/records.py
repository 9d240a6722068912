"""The two records of a run: that its program starts, and how it ended."""

import os

from runyard.shim import cgroups, lean, processes
from runyard.shim.lean import boottime_ns, epoch_ms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runyard.shim.confine import Order
    from runyard.shim.control import Clients
    from runyard.shim.lean import Record


class Usage:
    """What the processes of a run have used, as far as they were collected."""

    __slots__ = ("max_rss_kib", "system_cpu_s", "user_cpu_s")

    def __init__(self) -> None:
        self.user_cpu_s = 0.0
        self.system_cpu_s = 0.0
        self.max_rss_kib = 0

    def count(self, user_cpu_s: float, system_cpu_s: float, max_rss_kib: int) -> None:
        """Add what a child that was waited for, and those that it had waited for, have used."""
        self.user_cpu_s += user_cpu_s
        self.system_cpu_s += system_cpu_s
        self.max_rss_kib = max(self.max_rss_kib, max_rss_kib)


class Launch:
    """The child on its way to become the program, as far as the shim has heard."""

    __slots__ = ("begun", "executed", "failed", "release", "status")

    def __init__(self) -> None:
        self.status: int | None = None
        """Where the child reports: until it is the program, or for as long as it is the program's init."""
        self.release = -1
        self.begun = b""
        self.executed = False
        self.failed: Record | None = None


class Facts:
    """What is known of one program, of which the records tell."""

    __slots__ = (
        "cause",
        "ended",
        "folder",
        "group",
        "has_init",
        "inner",
        "launch",
        "leftovers",
        "log",
        "missing",
        "namespaces",
        "order",
        "pid",
        "started",
        "status",
        "stopped_at",
        "usage",
    )

    def __init__(self, order: "Order", folder: int) -> None:
        self.order = order
        self.folder = folder
        self.launch = Launch()
        self.group: cgroups.Group | None = None
        self.namespaces: list[str] = []
        """Those that the program was born in."""
        self.has_init = False
        """Whether the child is the program's init: its own end means that nothing of the program is left."""
        self.inner = 0
        """Process 1 of its container, as the machine counts; 0: it has none, or none yet."""
        self.missing: list[str] = list(order.missing)
        self.log = -1
        self.pid = 0
        self.started: Record | None = None
        self.status: int | None = None
        """The program's wait status, once it ended."""
        self.ended: tuple[int, int] = (0, 0)
        """When it did: milliseconds since 1970 and since boot."""
        self.cause: str | None = None
        self.stopped_at: int | None = None
        """When the stop came that is the cause (:func:`lean.boottime_ns`)."""
        self.leftovers: set[int] = set()
        self.usage = Usage()

    def leave_group(self, group: cgroups.Group, kills: int) -> list[str]:  # noqa: ARG002 - another kind of run asks for it
        """Nothing of the program is left, nor of what its control group tells (``kills``: processes that the kernel
        has killed in it): remove the group; returns folders that are still there."""
        return cgroups.remove(group.folders)


def write_started(run: Facts, view: list[str], now: int) -> "Record":
    """Put on disk that a program starts, at that time of :func:`lean.boottime_ns`. Raises ``OSError``."""
    shim, order = os.getpid(), run.order
    program = run.inner or run.pid
    started: Record = {
        "attempt": order.attempt,
        "shim_pid": shim,
        "shim_start_ticks": processes.own_start_ticks(),
        "pid": program,
        "pid_start_ticks": processes.start_ticks(program),
        "boot_id": processes.boot_id(),
        "started_at_ms": epoch_ms(),
        "boottime_ms": now // 1_000_000,
        "cgroup": None if run.group is None else run.group.record(),
        "view": view,
        "namespaces": run.namespaces,
        "missing": run.missing,
        "way": way_of(order),
        "way_note": order.way_note,
        "tamper_proof": is_tamper_proof(run),
    }
    if order.container is not None:
        started["container"] = {name: order.container[name] for name in ("engine", "env", "remove")}
    lean.write_record(run.folder, "started.json", started)
    return started


def way_of(order: "Order") -> str:
    """How a program is started."""
    if order.container is not None:
        return "container"
    return "exec" if order.program is None else "warm"


def is_tamper_proof(run: Facts) -> bool:
    """Whether the program has another user than the shim, so that it cannot change what is recorded of it; or can,
    under the same one, neither see processes of others nor write what is not its own."""
    if run.order.container is not None or (run.order.uid is not None and run.order.uid != os.geteuid()):
        return True
    return {"pid", "mount"} <= set(run.namespaces) and "/" in run.order.read_only and run.missing == run.order.missing


def of_end(run: Facts) -> "Record":
    """The exit record of a run of which nothing is left; removes its control group after reading the evidence there."""
    oom_kills, peak = 0, None
    if run.group is not None:
        oom_kills, peak = cgroups.evidence(run.group)
        left = run.leave_group(run.group, oom_kills)
        run.group.missing += [f"The control group {folder} could not be removed." for folder in left]
    code = None if run.status is None else os.waitstatus_to_exitcode(run.status)
    started, failed = run.started, run.launch.failed
    if failed is None and not run.launch.executed and run.cause is None:
        failed = _ended_early(run, code)
    ended_ms, ended_boottime_ms = run.ended if run.status is not None else (epoch_ms(), boottime_ns() // 1_000_000)
    return {
        "attempt": run.order.attempt,
        "exit_code": code if code is not None and code >= 0 and failed is None else None,
        "signal": -code if code is not None and code < 0 and failed is None else None,
        "cause": run.cause,
        "launch_failed": failed,
        "started_at_ms": started and started["started_at_ms"],
        "ended_at_ms": ended_ms,
        "boottime_started_ms": started and started["boottime_ms"],
        "boottime_ended_ms": ended_boottime_ms,
        "boottime_stopped_ms": run.stopped_at and run.stopped_at // 1_000_000,
        "boot_id": processes.boot_id(),
        "log_bytes": _log_bytes(run),
        **_used(run),
        "killed_leftovers": len(run.leftovers),
        "tamper_proof": is_tamper_proof(run),
        "cgroup": None if run.group is None else run.group.record(),
        "oom_kills": oom_kills,
        "memory_peak_bytes": peak,
    }


def _used(run: Facts) -> "Record":
    """What the kernel counted of children; what was in a container is nobody's child here."""
    if run.order.container is not None:
        return {"user_cpu_s": None, "system_cpu_s": None, "max_rss_kib": None}
    usage = run.usage
    return {
        "user_cpu_s": round(usage.user_cpu_s, 6),
        "system_cpu_s": round(usage.system_cpu_s, 6),
        "max_rss_kib": usage.max_rss_kib,
    }


def _log_bytes(run: Facts) -> int:
    """How much the program has written, as far as the file is there."""
    return 0 if run.log < 0 else os.fstat(run.log).st_size


def _ended_early(run: Facts, code: int | None) -> "Record | None":
    """Why a program that nobody stopped never began; None: it may have, for all that is known."""
    if run.started is not None and (not run.has_init or (run.order.container is None and _log_bytes(run))):
        return None  # what keeps the program may be killed before it tells of it; only the program writes the log
    if run.order.container is not None:
        return {"stage": "container", "errno": None, "message": "What kept its container was killed."}
    message = f"The program was killed by signal {-(code or 0)} before it began: is its memory limit too small?"
    if code is not None and code >= 0:
        message = "What was to begin the program ended before it did."
    return {"stage": "launch", "errno": None, "message": message}


def unordered(folder: int, clients: "Clients", error: ValueError) -> None:
    """The end of an attempt whose launch order could not be read."""
    failed = {"stage": "order", "errno": None, "message": str(error)}
    record: Record = {"attempt": None, "exit_code": None, "signal": None, "cause": None, "launch_failed": failed}
    try:
        lean.write_record(folder, "exit.json", record)
    except OSError as trouble:
        lean.grumble(f"The exit record cannot be written: {trouble.strerror}.")
        return
    clients.accept()
    clients.tell_all({"event": "exited", "record": record})
    clients.close()
