"""One learner's program from launch order to exit record: started, watched, stopped on command, and all of it reaped.

A :class:`Run` waits for nothing itself: a :class:`runyard.shim.loop.Loop` tells it what has happened. The facts are on
disk before anybody is told of them; only that no process is left is told at once. docs/rooms/shim.md has the contract
and the two records.
"""

import os

from runyard.shim import cgroups, lean, processes, records
from runyard.shim.confine import Child, Order, failure, read_order
from runyard.shim.control import Clients
from runyard.shim.lean import NANO, boottime_ns, epoch_ms, signals
from runyard.shim.loop import Due, Loop, prepare
from runyard.shim.records import Facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from resource import struct_rusage
    from typing import NoReturn

    from runyard.shim.lean import Record

COURTESY_S = 1.0
"""What background processes that outlive a program which ended by itself get between SIGTERM and SIGKILL, at most."""
FIRST_RETRY_NS, LAST_RETRY_NS = 2_000_000, NANO
"""Between one SIGKILL to everything and the next, while something is not gone: doubled each time."""
LOOK_NS = 1_000_000
"""An init that has told of the program's end is gone within this time, unless the program has left something."""
FOREVER_S = 1e9


class Run(Facts):
    """One program, its deadlines (:func:`lean.boottime_ns`), and who is told of it."""

    __slots__ = (
        "clients",
        "done",
        "due",
        "ending",
        "gone",
        "held",
        "holding",
        "kills",
        "loop",
        "over",
        "over_told",
        "record",
    )

    def __init__(self, order: Order, folder: int, clients: Clients, loop: Loop, holding: "Sequence[int]" = ()) -> None:
        super().__init__(order, folder)
        self.clients = clients
        self.loop = loop
        self.holding = holding
        """Descriptors to be closed once its record is on disk, its lock last."""
        self.held = False
        """Whether the program is in its control group, so that the group's members are all of its processes."""
        self.gone = False
        """Whether the child was reaped."""
        self.over = False
        """Whether no process of it is left."""
        self.over_told = False
        self.done = False
        """Whether its record is on disk, and everybody told."""
        self.due = Due()
        self.kills = 0
        self.ending: Record | None = None
        """The exit record, on its way to the disk."""
        self.record: Record | None = None
        """The same, once it is there."""

    # ------------------------------------------------------------------------------------------------------- start

    def begin(self) -> None:
        """Make the control group and the log, and fork the child."""
        if self.make_ready():
            heard, status = os.pipe()
            waiting, release = os.pipe()
            self.pid = self._fork(status, waiting)
            os.close(status)
            os.close(waiting)
            self.launch.status, self.launch.release = heard, release
            os.set_blocking(heard, False)

    def make_ready(self) -> bool:
        """Make the control group and the log; False: that failed, and the run is over."""
        if self.open_log():
            self.make_group()
        return not self.over

    def open_log(self) -> bool:
        """Make the log, and room for the record of the end; False: that failed, and the run is over."""
        lean.reserve(self.folder, "exit.json")
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self.log = os.open(self.order.log, flags, 0o600)
        except OSError as error:
            self.launch.failed = failure("log", error)
            self.over = True
        return not self.over

    def make_group(self) -> None:
        """Make the control group, where there is to be one."""
        limits = self.order.cgroup
        if limits is not None:
            if limits.get("pids") is not None:
                limits = {**limits, "pids": limits["pids"] + self.beside()}
            self.group = self.new_group(limits)

    def new_group(self, limits: "Mapping[str, int | None]") -> cgroups.Group:
        """A control group with these limits."""
        return cgroups.create(self.order.cgroup_name, limits)

    def beside(self) -> int:
        """How many processes are in its control group that are not the program's: its init."""
        return 1 if self.order.namespaces else 0

    def most_processes(self) -> int | None:
        """How many the program may have in its user namespace; None: a control group says so, or nothing can."""
        limits = self.order.cgroup
        if limits is None or "user" not in self.namespaces or self.group is None or "pids" in self.group.controllers:
            return None
        cgroups.bound_otherwise(self.group, "pids")
        most: int | None = limits.get("pids")
        return None if most is None else most + 1  # the init

    def _fork(self, status: int, waiting: int) -> int:
        """Fork the child, in namespaces of its own where they can be had; its process id."""
        wanted = self.order.namespaces
        if self.order.container is not None:
            return self._fork_keeper(status, waiting)
        if os.geteuid() == 0:
            wanted = [name for name in wanted if name != "user"]
        elif wanted and "user" not in wanted:
            wanted = []
            self.missing.append("The program has no namespaces of its own: the node must run as root to give them.")
        if wanted:
            try:
                self.namespaces = wanted
                return self._fork_into(wanted, status, waiting)
            except OSError as error:
                self.namespaces = []
                self.missing.append(f"The program has no namespaces of its own: {error.strerror}.")
        return self._fork_into([], status, waiting)

    def _fork_keeper(self, status: int, waiting: int) -> int:
        """Fork what keeps the container, which is no member of the control group itself."""
        from runyard.shim import container  # noqa: F401, PLC0415 # pyright: ignore[reportUnusedImport] - start-up time of those that need none

        shim = os.getpid()
        self.has_init, self.namespaces = True, ["pid", "mount", "ipc"]
        child = Child(self.order, [], [] if self.group is None else list(self.group.folders), self.log)
        signals.pthread_sigmask(signals.SIG_BLOCK, signals.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                child.keep(status, waiting, shim)
        finally:
            signals.pthread_sigmask(signals.SIG_SETMASK, ())
        return pid

    def _fork_into(self, namespaces: list[str], status: int, waiting: int) -> int:
        shim = os.getpid()
        self.has_init = "pid" in namespaces
        folders = [] if self.group is None else list(self.group.folders)
        unified = None if self.group is None else self.group.unified
        flags = 0
        if namespaces:
            from runyard.shim import init, isolation, scope  # noqa: F401, PLC0415 # pyright: ignore[reportUnusedImport] - start-up time of those that need neither; the child cannot reach their files

            flags = isolation.flags_of(namespaces)
        child = Child(self.order, namespaces, folders, self.log)
        child.most_processes = self.most_processes()
        signals.pthread_sigmask(signals.SIG_BLOCK, signals.valid_signals())
        try:
            pid, born_in = lean.fork_into(unified, flags)
            if pid == 0:
                if born_in and unified:
                    folders.remove(unified)
                child.become(status, waiting, shim)
        finally:
            signals.pthread_sigmask(signals.SIG_SETMASK, ())
        return pid

    def hear(self) -> None:
        """Take in what the child reports, as far as it has: it is ready, it failed, the program runs, or has ended. At
        the end of the pipe a child that is no init is the program."""
        launch = self.launch
        while launch.status is not None:
            try:
                chunk = os.read(launch.status, 1 << 16)
            except BlockingIOError:
                return
            *lines, launch.begun = (launch.begun + chunk).split(b"\n")
            for line in lines:
                self._heed(lean.decode(line))
            if not chunk:
                os.close(launch.status)
                launch.status = None
                if not self.has_init and launch.failed is None and self.started is not None:
                    self._executed()

    def _heed(self, report: "Record") -> None:
        """Take in one line of the child's."""
        if "stage" in report:
            named = ("stage", "errno", "message", "reason")
            self.launch.failed = {name: report[name] for name in named if name in report}
        elif "ended" in report:
            self._program_ended(report["ended"], report["at_boottime_ns"])
        elif "begun" in report:
            self._executed()
        elif self.cause is None and self.launch.failed is None:
            self.release(report)

    def _executed(self) -> None:
        self.launch.executed = True
        self.clients.tell_all(self.state())

    def release(self, report: "Record") -> None:
        """Put on disk that the program starts, then let it."""
        group = self.group
        outside: list[str] = report.get("outside") or []
        if group is not None:
            group.missing += outside
            self.held = len(outside) < len(group.folders)
        self.missing += report["missing"]
        self.inner = report.get("pid", 0)
        now = boottime_ns()
        try:
            self.started = records.write_started(self, report["view"], now)
        except OSError as error:
            self.launch.failed = failure("record", error)
            self.due.kill_at = now
            return
        if self.order.max_runtime_s is not None:
            self.due.limit_at = now + int(min(self.order.max_runtime_s, FOREVER_S) * NANO)
        try:
            os.write(self.launch.release, b"1")
        except OSError:
            pass  # it died meanwhile: its wait status says so
        os.close(self.launch.release)
        self.launch.release = -1

    # -------------------------------------------------------------------------------------------------------- life

    def descriptors(self) -> list[int]:
        """Where it is to be told of what can be read."""
        own = [self.clients.listening.fileno(), *self.clients.connected()]
        return own if self.launch.status is None else [*own, self.launch.status]

    def deadline(self) -> int | None:
        """When it is to be called next, whatever happens."""
        return 0 if self.over and self.due.record_at is None else self.due.next()

    def answer(self, descriptor: int) -> None:
        """Do what one descriptor calls for."""
        if self.done:
            return
        if descriptor == self.launch.status:
            self.hear()
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
        self.hear()
        self.loop.reap()  # an end that came first is final, whichever the shim hears of first
        now = boottime_ns()
        at = now + int(max(0.0, min(grace_s, FOREVER_S)) * NANO)
        if self.cause is None and self.status is None:
            self.cause, self.stopped_at = cause, now
            if not self.launch.executed:
                at = now  # nothing of the user's runs yet that could make use of a grace
            elif at > now:
                processes.signal_all(self.members, (signals.SIGTERM, signals.SIGCONT))
        self.due.kill_at = at if self.due.kill_at is None else min(self.due.kill_at, at)
        self.clients.tell_all(
            {"event": "stopping", "cause": self.cause, "kill_at_boottime_ms": self.due.kill_at // 1_000_000}
        )

    def on_time(self, now: int) -> None:
        """Do what is due."""
        if self.due.limit_at is not None and now >= self.due.limit_at:
            self.due.limit_at = None
            if self.status is None:
                self.stop("time_limit", self.order.grace_s)
        if self.due.leftovers_at is not None and now >= self.due.leftovers_at and not self.over:
            self.due.leftovers_at = None
            self._end_leftovers()
        if self.due.kill_at is not None and now >= self.due.kill_at and not self.over:
            self.kill()
            self.due.kill_at = now + min(LAST_RETRY_NS, FIRST_RETRY_NS << min(self.kills, 16))
            self._see_whether_over()
        if self.over and not self.done and (self.due.record_at is None or now >= self.due.record_at):
            self.due.none_but_record()
            self.finish(now)

    def members(self) -> list[int]:
        """Every living process of the program; its init is none."""
        if self.held and self.group is not None:
            found = cgroups.members(self.group.folders)
        else:
            found = processes.descendants(self.inner or (self.pid if self.has_init else os.getpid()))
        return [pid for pid in found if pid != self.pid] if self.has_init else found

    def kill(self) -> None:
        """SIGKILL to everything there is: by the end of its PID namespace, which is that of its init. Without one by
        the control group the first time, then also by descent, parents first, so that no shell lives to take the end
        of its child for an exit code."""
        if self.pid <= 0:
            self.kills += 1  # it is not born yet
            return
        if self.status is not None:
            self.leftovers.update(self.members())
        if self.order.container is not None:
            self._kill_container()
            return
        alone = "pid" in self.namespaces
        if alone and not self.gone:
            os.kill(self.pid, signals.SIGKILL)
        if self.held and self.group is not None and (self.kills or not alone):
            cgroups.kill(self.group.folders)
        if not alone and (self.kills or not self.held):
            above = self.pid if self.has_init else os.getpid()
            processes.signal_all(lambda: processes.descendants(above), (signals.SIGKILL,))
        self.kills += 1

    def _kill_container(self) -> None:
        """SIGKILL to what is in the container, and to its keeper the word to end it."""
        if not self.gone:
            os.kill(self.pid, signals.SIGTERM)
        if self.held and self.group is not None:
            cgroups.kill(self.group.folders)
        self.kills += 1

    def abandon(self) -> None:
        """End the program after a mistake of ours, without a record: the run is lost."""
        try:
            self.kill()
        finally:
            self.close()

    def owns(self, pid: int) -> bool:
        """Whether a child that ended is the run's: its own, or an orphan that nobody else can have left."""
        return pid == self.pid or not self.has_init

    def reaped(self, pid: int, status: int, usage: "struct_rusage") -> None:
        """Take in the end of a child."""
        self.count(usage)
        if pid != self.pid:
            return
        self.gone = True
        if self.has_init:
            self.hear()
        if self.status is None:
            self._program_ended(status, boottime_ns())
        if self.has_init:
            self._see_whether_over()

    def count(self, usage: "struct_rusage") -> None:
        """Add what a child has used."""
        self.usage.count(usage.ru_utime, usage.ru_stime, usage.ru_maxrss)

    def childless(self) -> None:
        """As a subreaper a shim inherits each orphan of the tree, so having no child at all means that nothing of the
        tree is left."""
        self.over = True

    def _see_whether_over(self) -> None:
        """The end of an init is that of its PID namespace; without one, what it has left is still to be ended."""
        if self.gone and self.has_init:
            born_alone = "pid" in self.namespaces and self.order.container is None
            self.over = born_alone or not self.held or not self.members()
            if not self.over and self.due.kill_at is None:
                self.due.kill_at = boottime_ns()

    def _program_ended(self, status: int, at_ns: int) -> None:
        """The program itself has ended; what it left has yet to. A stop that came later is not its cause."""
        now = boottime_ns()
        self.status = status
        self.ended = (epoch_ms() - (now - at_ns) // 1_000_000, at_ns // 1_000_000)
        self.due.limit_at = None
        if self.stopped_at is not None and at_ns < self.stopped_at:
            self.cause = None
        # A stop has told everything already, and its grace is for all of the tree: a shell dies of SIGTERM at once,
        # while the training that it started may be writing its checkpoint.
        if self.cause is None and not self.kills:
            self.due.leftovers_at = now + LOOK_NS if self.has_init else now

    def _end_leftovers(self) -> None:
        """The program ended by itself and left processes in the background: a SIGTERM, and soon the end."""
        self.leftovers = processes.signal_all(self.members, (signals.SIGTERM, signals.SIGCONT))
        at = boottime_ns() + int(min(self.order.grace_s, COURTESY_S) * NANO)
        self.due.kill_at = at if self.due.kill_at is None else min(self.due.kill_at, at)

    def finish(self, now: int) -> None:
        """Read the evidence, remove the group, put the record on disk, and tell who listens. An end that is not on disk
        is not known: it is tried again for as long as the folder exists. That no process is left is told before: the
        next program may begin meanwhile."""
        self.tell_over()
        self.ending = record = self.ending or records.of_end(self)
        try:
            lean.write_record(self.folder, "exit.json", record)
        except OSError as error:
            lean.grumble(f"The exit record cannot be written yet: {error.strerror}.")
            if os.fstat(self.folder).st_nlink:
                self.due.record_again(now)
                return
        self.record = record
        self.clients.accept()
        self.clients.tell_all(self.state())
        self.close()

    def tell_over(self) -> None:
        """Tell once that no process is left."""
        if not self.over_told:
            self.over_told = True
            self.clients.accept()
            self.clients.tell_all({"event": "over", "cause": self.cause})

    def close(self) -> None:
        """Let go of everything, the lock last."""
        self.done = True
        self.clients.close()
        ends = (self.launch.status, self.launch.release, self.log, *self.holding)
        for descriptor in ends:
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)


def main(arguments: list[str]) -> "NoReturn":
    """Be the shim of the attempt whose folder and descriptors the arguments name; ends the process."""
    named = dict(zip(arguments[::2], arguments[1::2], strict=True))
    lock, listen, ordered = (int(named[name]) for name in ("--lock-fd", "--listen-fd", "--order-fd"))
    for descriptor in (lock, listen, ordered):
        os.set_inheritable(descriptor, False)
    attend(os.open(named["--dir"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), listen, ordered)


def attend(folder: int, listening: int, ordered: int) -> "NoReturn":
    """Be the shim of an attempt, of which these are the descriptors; ends the process."""
    loop = Loop(prepare())
    clients = Clients(listening)
    try:
        order = read_order(ordered)
    except ValueError as error:
        records.unordered(folder, clients, error)
        os._exit(0)
    run = Run(order, folder, clients, loop)
    loop.runs.append(run)
    try:
        run.begin()
        while loop.runs:
            loop.turn()
    except BaseException:
        run.kill()  # a mistake of ours must not leave a program that nobody watches
        raise
    os._exit(0 if run.record is not None else 1)
