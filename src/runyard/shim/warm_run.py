"""One program of a warm parent, from its order to the record of its end: not the shim forks it, but the parent."""

from runyard.shim import cgroups, init, mounts, processes
from runyard.shim.cells import Cell
from runyard.shim.confine import Order
from runyard.shim.control import Clients
from runyard.shim.groups import Groups
from runyard.shim.lean import boottime_ns
from runyard.shim.loop import Loop
from runyard.shim.supervise import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from resource import struct_rusage

    from runyard.shim.lean import Record

SUCCESSOR_NS = 3_000_000
"""How long the record of an end waits for the launch of the program that follows."""


class WarmRun(Run):
    """A run that the warm parent forks: its program in a cell, or its init. Until the process id of the cell or init
    has been told, it is being born."""

    __slots__ = ("_ready", "_spare", "cell", "first", "groups", "mounts", "number", "outside", "peak_kib")

    def __init__(
        self,
        order: Order,
        folder: int,
        clients: Clients,
        loop: Loop,
        holding: "Sequence[int]",
        groups: Groups,
        number: int,
    ) -> None:
        super().__init__(order, folder, clients, loop, holding)
        self.number = number
        self.groups = groups
        self._spare: cgroups.Group | None = None
        """Its control group, which another program may be in once its end is on disk."""
        self.has_init = True
        self.namespaces = list(order.namespaces)
        self.mounts: mounts.Mounts | None = None
        self.cell: Cell | None = None
        self.first = 0
        """The first of its processes that counts among those of its control group: the program in a cell, or its init;
        0: there is none yet."""
        self.outside: list[str] = []
        self.peak_kib = 0
        """The most memory that its program had when it was killed."""
        self._ready: Record | None = None

    @property
    def is_being_born(self) -> bool:
        """Whether the parent has still to say what became of it."""
        return self.pid == 0 and not self.over

    def adopt(self, pid: int) -> None:
        """Its cell or init is there."""
        self.pid = pid
        if self.cell is None:
            self.born(pid)
        else:
            self._go_on()

    def born(self, program: int) -> None:
        """Its first process is there, and will wait: put it into the control group, and let it go on once it is
        ready."""
        self.first = program
        self.outside = [] if self.group is None else cgroups.join(self.group.folders, program)
        self._go_on()

    def _go_on(self) -> None:
        if self.cause is not None:
            self.due.kill_at = boottime_ns()  # stopped before it was known
        elif self._ready is not None:
            self.release(self._ready)

    def left(self, report: "Record") -> None:
        """Nothing of it is left in its cell."""
        self.hear()
        self.usage.count(report["user_cpu_s"], report["system_cpu_s"], report["max_rss_kib"])
        self.gone = self.over = True
        if self.status is None:  # it was not even forked, and the cell has said why
            self._program_ended(init.FAILED << 8, boottime_ns())

    def refuse(self, message: str) -> None:
        """There will be no init."""
        if self.is_being_born:
            self.launch.failed = {"stage": "launch", "errno": None, "message": message}
            self.over = True

    def release(self, report: "Record") -> None:
        """As any run; but a program may be ready before it is known which process it is."""
        self._ready = report
        if self.pid and self.first and self.cause is None:
            made = self.mounts
            covered, missing = ([], []) if made is None else (made.covered, made.missing)
            view, lacking = [*covered, *report.get("view", [])], [*missing, *report.get("missing", [])]
            super().release({"view": view, "missing": lacking, "outside": self.outside})

    def is_for_a_cell(self) -> bool:
        """Whether its program can be one of several that run in a PID namespace one after another. What is not refused
        every system call that programs are could leave something behind."""
        return "pid" in self.order.namespaces and not self.order.open_calls

    def beside(self) -> int:
        """A cell is in no program's control group."""
        return 0 if self.is_for_a_cell() else super().beside()

    def kill(self) -> None:
        """As any run: by the end of its cell, which is no other's then."""
        if self.cell is not None:
            self.cell.is_spoilt = True
            self.peak_kib = max(self.peak_kib, processes.peak_kib(self.first))
        super().kill()

    def owns(self, pid: int) -> bool:
        """Whether a process that ended is its cell or init."""
        return pid == self.pid and not self.gone

    def count(self, usage: "struct_rusage") -> None:
        """Of a cell only what this run has used."""
        if self.cell is None:
            super().count(usage)
            return
        self.cell.is_spoilt = True
        user, system = self.cell.spent
        peak = usage.ru_maxrss if self.cell.programs == 1 else self.peak_kib
        self.usage.count(usage.ru_utime - user, usage.ru_stime - system, peak)

    def told(self) -> "Record":
        """Its order, as its program or init is given it."""
        order = self.order
        still = None if self.mounts is None else self.mounts.still
        prepared = self.mounts is not None and still is None
        return {
            "program": order.program,
            "env": order.env,
            "cwd": order.cwd,
            "open_calls": order.open_calls,
            "most_processes": self.most_processes(),
            "view": [] if self.mounts is not None else order.visible,
            "hide": [] if self.mounts is not None else order.hide,
            "namespaces": [name for name in order.namespaces if name != "mount" or not prepared],
            "mounts": prepared,
            "covers": still,
            "network": order.network,
            "shm_mib": None if prepared else order.shm_mib,
            "nice": order.nice,
            "closed_devices": [] if prepared else order.closed_devices,
            "read_only": [] if prepared else order.read_only,
            "writable": [] if prepared else order.writable,
            "fixed": [] if self.mounts is not None else order.fixed,
            "tmp": None if self.mounts is not None else order.tmp,
        }

    def new_group(self, limits: "Mapping[str, int | None]") -> cgroups.Group:
        """Of a program in a cell one that others may have been in."""
        if self.is_for_a_cell():
            return self.groups.take(self.order.cgroup_name.rpartition("/")[0], limits)
        return super().new_group(limits)

    def leave_group(self, group: cgroups.Group, kills: int) -> list[str]:
        """As any run; but what is as new is kept for others."""
        if self.is_for_a_cell() and not self.kills and self.groups.is_as_new(group, kills):
            self._spare = group
            return []
        return self.groups.remove(group)

    def close(self) -> None:
        """As any run; from now on its cell and its control group may be another's."""
        super().close()
        if self._spare is not None:
            self.groups.give_back(self._spare)
        if self.cell is not None:
            self.cell.vacate()

    def on_time(self, now: int) -> None:
        """As any run; but its end goes to the disk a moment after it was told that nothing is left of it: the node may
        have the next one begin meanwhile, which is forked while this process writes."""
        if self.over and not self.over_told:
            self.tell_over()
            self.due.none_but_record()
            self.due.record_at = now + SUCCESSOR_NS
        super().on_time(now)

    def childless(self) -> None:
        """Says nothing of this run: its init may not be known yet."""
