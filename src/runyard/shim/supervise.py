"""One learner's program from launch order to exit record: started, watched, stopped on command, and all of it reaped.

Everything waits in one poll: the child's report, children that ended, clients, and one alarm for the next deadline.
The facts are on disk before anybody is told of them. docs/rooms/shim.md has the contract and the two records.
"""

import os
import select
import time

from runyard.shim import cgroups, lean, processes
from runyard.shim.confine import Child, Order, failure, read_order
from runyard.shim.control import Clients
from runyard.shim.lean import NANO, boottime_ns, epoch_ms, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from runyard.shim.lean import Record

COURTESY_S = 1.0
"""What background processes that outlive a program which ended by itself get between SIGTERM and SIGKILL, at most."""
FIRST_RETRY_NS, LAST_RETRY_NS = 2_000_000, NANO
"""Between one SIGKILL to everything and the next, while something is not gone: doubled each time."""
FOREVER_S = 1e9


class Launch:
    """The child on its way to become the program, as far as the shim has heard."""

    __slots__ = ("begun", "executed", "failed", "release", "status")

    def __init__(self) -> None:
        self.status: int | None = None
        """Where the child reports, until it is the program."""
        self.release = -1
        self.begun = b""
        self.executed = False
        self.failed: Record | None = None


class Shim:
    """One program, its deadlines (:func:`lean.boottime_ns`), and what is known of its end."""

    __slots__ = (
        "alarm",
        "cause",
        "clients",
        "cpu_s",
        "ended",
        "folder",
        "group",
        "held",
        "kill_at",
        "kills",
        "launch",
        "leftovers",
        "limit_at",
        "log",
        "max_rss_kib",
        "order",
        "over",
        "pid",
        "record",
        "started",
        "status",
        "stopped_at",
        "wake",
    )

    def __init__(self, order: Order, folder: int, clients: Clients, wake: int) -> None:
        self.order = order
        self.folder = folder
        self.clients = clients
        self.wake = wake
        self.alarm = lean.Alarm()
        self.launch = Launch()
        self.group: cgroups.Group | None = None
        self.held = False
        """Whether the program is in its control group, so that the group's members are all of its processes."""
        self.log = -1
        self.pid = 0
        self.started: Record | None = None
        self.status: int | None = None
        """The program's wait status, once it ended."""
        self.ended: tuple[int, int] = (0, 0)
        """When it did: milliseconds since 1970 and since boot."""
        self.over = False
        """Whether no process of it is left."""
        self.cause: str | None = None
        self.stopped_at: int | None = None
        """When the stop came that is the cause."""
        self.limit_at: int | None = None
        self.kill_at: int | None = None
        self.kills = 0
        self.leftovers: set[int] = set()
        self.cpu_s = [0.0, 0.0]
        self.max_rss_kib = 0
        self.record: Record | None = None

    # ------------------------------------------------------------------------------------------------------- start

    def begin(self) -> None:
        """Make the control group and the log, and fork the child."""
        order = self.order
        if order.cgroup is not None:
            self.group = cgroups.create(order.cgroup_name, order.cgroup)
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self.log = os.open(order.log, flags, 0o600)
        except OSError as error:
            self.launch.failed = failure("log", error)
            self.over = True
            return
        shim = os.getpid()
        heard, status = os.pipe()
        waiting, release = os.pipe()
        signals.pthread_sigmask(signals.SIG_BLOCK, signals.valid_signals())
        folders = [] if self.group is None else list(self.group.folders)
        unified = None if self.group is None else self.group.unified
        self.pid, born_in = lean.fork_into(unified)
        if self.pid == 0:
            if born_in and unified:
                folders.remove(unified)
            Child(order, folders, self.log, status, waiting, shim).become()
        signals.pthread_sigmask(signals.SIG_SETMASK, ())
        os.close(status)
        os.close(waiting)
        self.launch.status, self.launch.release = heard, release

    def hear(self, descriptor: int) -> None:
        """Take in what the child reports: it is ready, it failed, or (at the end of the pipe) it is the program."""
        launch = self.launch
        chunk = os.read(descriptor, 1 << 16)
        *lines, launch.begun = (launch.begun + chunk).split(b"\n")
        for line in lines:
            report = lean.decode(line)
            if "stage" in report:
                launch.failed = report
            elif self.cause is None:
                self.release(report)
        if not chunk:
            os.close(descriptor)
            launch.status = None
            launch.executed = launch.failed is None and self.started is not None
            if launch.executed:
                self.clients.tell_all(self.state())

    def release(self, report: "Record") -> None:
        """Put on disk that the program starts, then let it."""
        group = self.group
        if group is not None:
            group.missing += report["missing"]
            self.held = len(report["missing"]) < len(group.folders)
        shim, now = os.getpid(), boottime_ns()
        started: Record = {
            "attempt": self.order.attempt,
            "shim_pid": shim,
            "shim_start_ticks": processes.start_ticks(shim),
            "pid": self.pid,
            "pid_start_ticks": processes.start_ticks(self.pid),
            "boot_id": processes.boot_id(),
            "started_at_ms": epoch_ms(),
            "boottime_ms": now // 1_000_000,
            "cgroup": None if group is None else group.record(),
            "view": report["view"],
            "tamper_proof": self.order.uid is not None and self.order.uid != os.geteuid(),
        }
        try:
            lean.write_record(self.folder, "started.json", started)
        except OSError as error:
            self.launch.failed = failure("record", error)
            self.kill_at = now
            return
        self.started = started
        if self.order.max_runtime_s is not None:
            self.limit_at = now + int(min(self.order.max_runtime_s, FOREVER_S) * NANO)
        try:
            os.write(self.launch.release, b"1")
        except OSError:
            pass  # it died meanwhile: its wait status says so
        os.close(self.launch.release)

    # -------------------------------------------------------------------------------------------------------- life

    def run(self) -> None:
        """Until no process is left."""
        self.begin()
        while not self.over:
            self.alarm.set(min((at for at in (self.limit_at, self.kill_at) if at is not None), default=None))
            for descriptor in self.wait():
                self.answer(descriptor)
            self.on_time(boottime_ns())

    def wait(self) -> list[int]:
        """The descriptors at which there is something to do."""
        poll = select.poll()
        for descriptor in (self.wake, self.alarm.fd, self.clients.listening.fileno(), *self.clients.connected()):
            poll.register(descriptor, select.POLLIN)
        if self.launch.status is not None:
            poll.register(self.launch.status, select.POLLIN)
        return [descriptor for descriptor, _ in poll.poll()]

    def answer(self, descriptor: int) -> None:
        """Do what one descriptor calls for."""
        if descriptor == self.wake:
            os.read(descriptor, 4096)
            self.reap()
        elif descriptor == self.alarm.fd:
            self.alarm.clear()
        elif descriptor == self.launch.status:
            self.hear(descriptor)
        elif descriptor == self.clients.listening.fileno():
            for client in self.clients.accept():
                self.clients.tell(client, self.state())
        else:
            for line in self.clients.lines(descriptor):
                self.obey(descriptor, line)

    def state(self) -> "Record":
        """What a client is told when it comes, and all of them at a change."""
        if self.record is not None:
            return {"event": "exited", "record": self.record}
        if not self.launch.executed or self.started is None:
            return {"event": "starting", "attempt": self.order.attempt}
        return {"event": "started", **self.started, "stopping": self.cause}

    def obey(self, client: int, line: "Record") -> None:
        """Carry out a client's line."""
        cause, grace = line.get("cause"), line.get("grace_s", self.order.grace_s)
        if line.get("op") == "stop" and isinstance(cause, str) and isinstance(grace, int | float):
            self.stop(cause, grace)
        else:
            message = 'Say {"op": "stop", "cause": "...", "grace_s": seconds}: nothing else is understood here.'
            self.clients.tell(client, {"event": "refused", "message": message})

    # --------------------------------------------------------------------------------------------------------- end

    def stop(self, cause: str, grace_s: float) -> None:
        """SIGTERM now and SIGKILL after the grace, to everything. The first cause stands; a later call may only
        shorten the grace. A program that has ended by itself keeps its own end."""
        self.reap()  # an end that came first is final, whichever the shim hears of first
        now = boottime_ns()
        at = now + int(max(0.0, min(grace_s, FOREVER_S)) * NANO)
        if self.cause is None and self.status is None:
            self.cause, self.stopped_at = cause, now
            if not self.launch.executed:
                at = now  # nothing of the user's runs yet that could make use of a grace
            elif at > now:
                processes.signal_all(self.members, (signals.SIGTERM, signals.SIGCONT))
        self.kill_at = at if self.kill_at is None else min(self.kill_at, at)
        self.clients.tell_all(
            {"event": "stopping", "cause": self.cause, "kill_at_boottime_ms": self.kill_at // 1_000_000}
        )

    def on_time(self, now: int) -> None:
        """Do what is due."""
        if self.limit_at is not None and now >= self.limit_at:
            self.limit_at = None
            if self.status is None:
                self.stop("time_limit", self.order.grace_s)
        if self.kill_at is not None and now >= self.kill_at and not self.over:
            self.kill()
            self.kill_at = now + min(LAST_RETRY_NS, FIRST_RETRY_NS << min(self.kills, 16))

    def members(self) -> list[int]:
        """Every living process of the program."""
        if self.held and self.group is not None:
            return cgroups.members(self.group.folders)
        return processes.descendants(os.getpid())

    def kill(self) -> None:
        """SIGKILL to everything there is; the first time by the control group, then also by descent, parents first, so
        that no shell lives to take the end of its child for an exit code."""
        if self.status is not None:
            self.leftovers.update(self.members())
        if self.held and self.group is not None:
            cgroups.kill(self.group.folders)
        if self.kills or not self.held:
            own = os.getpid()
            processes.signal_all(lambda: processes.descendants(own), (signals.SIGKILL,))
        self.kills += 1

    def reap(self) -> None:
        """Collect every child that ended. As a subreaper the shim inherits each orphan of the tree, so having no
        child at all means that nothing of the tree is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                self.over = True
                return
            if pid == 0:
                break
            self.cpu_s[0] += usage.ru_utime
            self.cpu_s[1] += usage.ru_stime
            self.max_rss_kib = max(self.max_rss_kib, usage.ru_maxrss)
            if pid == self.pid:
                self.status = status
                self.ended = (epoch_ms(), boottime_ns() // 1_000_000)
                self.limit_at = None
        # A stop has told everything already, and its grace is for all of the tree: a shell dies of SIGTERM at once,
        # while the training that it started may be writing its checkpoint.
        if self.status is not None and self.cause is None and not self.kills and not self.leftovers:
            self.end_leftovers()

    def end_leftovers(self) -> None:
        """The program ended by itself and left processes in the background: a SIGTERM, and soon the end."""
        self.leftovers = processes.signal_all(self.members, (signals.SIGTERM, signals.SIGCONT))
        at = boottime_ns() + int(min(self.order.grace_s, COURTESY_S) * NANO)
        self.kill_at = at if self.kill_at is None else min(self.kill_at, at)

    def finish(self) -> None:
        """Read the evidence, remove the group, put the record on disk, and tell who listens."""
        oom_kills, peak = 0, None
        if self.group is not None:
            oom_kills, peak = cgroups.evidence(self.group.folders)
            left = cgroups.remove(self.group.folders)
            self.group.missing += [f"The control group {folder} could not be removed." for folder in left]
        record = {**self.ending(), "oom_kills": oom_kills, "memory_peak_bytes": peak}
        _settle(self.folder, record)
        self.record = record
        self.clients.accept()
        self.clients.tell_all(self.state())
        self.clients.close()

    def ending(self) -> "Record":
        """The exit record, the kernel's evidence on memory left out."""
        code = None if self.status is None else os.waitstatus_to_exitcode(self.status)
        started, failed = self.started, self.launch.failed
        if failed is None and started is None and self.cause is None:
            message = f"The program was killed by signal {-(code or 0)} before it began: is its memory limit too small?"
            failed = {"stage": "launch", "errno": None, "message": message}
        ended_ms, ended_boottime_ms = (
            self.ended if self.status is not None else (epoch_ms(), boottime_ns() // 1_000_000)
        )
        return {
            "attempt": self.order.attempt,
            "exit_code": code if code is not None and code >= 0 and failed is None else None,
            "signal": -code if code is not None and code < 0 and failed is None else None,
            "cause": self.cause,
            "launch_failed": failed,
            "started_at_ms": started and started["started_at_ms"],
            "ended_at_ms": ended_ms,
            "boottime_started_ms": started and started["boottime_ms"],
            "boottime_ended_ms": ended_boottime_ms,
            "boottime_stopped_ms": self.stopped_at and self.stopped_at // 1_000_000,
            "boot_id": processes.boot_id(),
            "log_bytes": 0 if self.log < 0 else os.fstat(self.log).st_size,
            "user_cpu_s": round(self.cpu_s[0], 6),
            "system_cpu_s": round(self.cpu_s[1], 6),
            "max_rss_kib": self.max_rss_kib,
            "killed_leftovers": len(self.leftovers),
            "tamper_proof": self.order.uid is not None and self.order.uid != os.geteuid(),
            "cgroup": None if self.group is None else self.group.record(),
        }


def _settle(folder: int, record: "Record") -> None:
    """Write the exit record, trying for as long as the folder exists: an end that is not on disk is not known."""
    pause = 0.1
    while True:
        try:
            lean.write_record(folder, "exit.json", record)
            return
        except OSError as error:
            os.write(2, f"The exit record cannot be written yet: {error.strerror}.\n".encode())
            if os.fstat(folder).st_nlink == 0:
                return
        time.sleep(pause)
        pause = min(5.0, pause * 2)


def _unordered(folder: int, clients: Clients, error: ValueError) -> None:
    """The end of an attempt whose launch order could not be read."""
    failed = {"stage": "order", "errno": None, "message": str(error)}
    record: Record = {"attempt": None, "exit_code": None, "signal": None, "cause": None, "launch_failed": failed}
    _settle(folder, record)
    clients.accept()
    clients.tell_all({"event": "exited", "record": record})
    clients.close()


def _woken(_signal: int, _frame: object) -> None:
    """Nothing: that a signal came is in the wake-up descriptor, which a signal with no handler leaves alone."""


def _prepare() -> int:
    """Make the calling process a shim: it outlives everyone, inherits orphans, and cannot be traced or dumped (its
    memory holds the order's secrets). Returns the descriptor that is readable when a child ended."""
    lean.prctl(lean.PR_SET_DUMPABLE, 0)
    lean.prctl(lean.PR_SET_CHILD_SUBREAPER, 1)
    for number in (signals.SIGHUP, signals.SIGINT, signals.SIGQUIT, signals.SIGTERM, signals.SIGUSR1, signals.SIGUSR2):
        signals.signal(number, signals.SIG_IGN)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signals.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signals.signal(signals.SIGCHLD, _woken)
    os.chdir("/")
    os.umask(0o077)
    return wake


def main(arguments: list[str]) -> "NoReturn":
    """Be the shim of the attempt whose folder and descriptors the arguments name; ends the process."""
    named = dict(zip(arguments[::2], arguments[1::2], strict=True))
    lock, listen, ordered = (int(named[name]) for name in ("--lock-fd", "--listen-fd", "--order-fd"))
    for descriptor in (lock, listen, ordered):
        os.set_inheritable(descriptor, False)
    attend(os.open(named["--dir"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), lock, listen, ordered)


def attend(folder: int, _lock: int, listening: int, ordered: int) -> "NoReturn":
    """Be the shim of an attempt, of which these are the descriptors; ends the process."""
    wake = _prepare()
    clients = Clients(listening)
    lean.reserve(folder, "exit.json")
    try:
        order = read_order(ordered)
    except ValueError as error:
        _unordered(folder, clients, error)
        os._exit(0)
    shim = Shim(order, folder, clients, wake)
    try:
        shim.run()
        shim.finish()
    except BaseException:
        shim.kill()  # a mistake of ours must not leave a program that nobody watches
        raise
    os._exit(0)
