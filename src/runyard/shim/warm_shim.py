"""The trusted process above a warm parent: it starts the parent, and is the shim of every program that it forks.

``shim.py --warm --control-fd N --order-fd O``; docs/rooms/shim.md has the messages. The parent forks with CLONE_PARENT,
so each program's init is a child of this process, which alone collects it: an end comes from the kernel to a process
that no program can signal or trace. One loop serves all runs; the parent may die, and they go on.
"""

import _socket
import os

from runyard.shim import cgroups, init, mounts, processes, records, supervise  # noqa: F401 # pyright: ignore[reportUnusedImport] - init is imported while its file can be reached
from runyard.shim.cells import Cells
from runyard.shim.confine import Child, Order, failure, read_order
from runyard.shim.control import Clients, Control, descriptors_of
from runyard.shim.groups import Groups
from runyard.shim.isolation import flags_of, map_other
from runyard.shim.lean import decode, encode, fork_into, signals
from runyard.shim.loop import Loop, prepare
from runyard.shim.warm_run import WarmRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resource import struct_rusage
    from typing import NoReturn

    from runyard.shim.lean import Record

AT = 3
"""The descriptor at which the parent finds the connection to this process."""
NEVER_KILLED = "-1000"
NO_NAMESPACES = "The program has no namespaces of its own: user namespaces are not allowed on this machine."
GONE = "The warm parent has ended."


class Parent:
    """The warm parent: its process, its connection, and how far it is."""

    __slots__ = ("control", "failed", "ground", "is_ready", "loaded", "order", "pid", "spoilt", "user_namespace")

    def __init__(self, order: "Record") -> None:
        self.order = order
        self.pid = 0
        self.control: Control | None = None
        self.loaded: Record = {}
        self.spoilt: dict[str, str] = {}
        """Why, by name, of modules that broke off while they were imported: they are left to the programs."""
        self.is_ready = False
        self.failed = ""
        """Why it forks nothing, or nothing any more."""
        self.user_namespace = -1
        self.ground: mounts.Ground | None = None
        """What it sees; None: its children's mounts cannot be made from there."""

    def start(self) -> None:
        """Fork and confine it, and have it import. Raises ``OSError`` in a sentence."""
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        heard, status = os.pipe()
        waiting, release = os.pipe()
        group = None if self.order.get("cgroup") is None else self.order["cgroup"]
        made = None if group is None else cgroups.create(str(group["name"]), group)
        order = Order({"attempt": "", "cwd": "/", "log": "", **self.order, "cgroup": None})
        order.namespaces = ["mount"] if os.geteuid() == 0 and "mount" in order.namespaces else []
        child = Child(order, order.namespaces, [] if made is None else made.folders, 2)
        self.ground = mounts.Ground(order) if order.namespaces else None
        shim = os.getpid()
        self.pid, _ = fork_into(None, flags_of(order.namespaces))
        if self.pid == 0:
            _be_killed_as_others()
            above = [_above(descriptor) for descriptor in (theirs.fileno(), status, waiting)]
            os.dup2(above[0], AT)
            child.kept = (AT,)
            child.filtered = False
            child.become(above[1], above[2], shim)
        for descriptor in (theirs.detach(), status, waiting):
            os.close(descriptor)
        _let_go(heard, release)
        os.set_blocking(ours.fileno(), False)
        self.control = Control(ours.detach())
        self.preload()

    def preload(self) -> None:
        """Have it import what has not broken off before."""
        wanted: list[str] = self.order.get("preload") or []
        modules = [name for name in wanted if name not in self.spoilt]
        if self.control is not None:
            self.control.tell({"op": "preload", "modules": modules, "namespaces": self.order["namespaces"]})

    def namespaces_for(self, order: Order) -> list[str]:
        """Those of an order's namespaces that its forks can be born in."""
        own: list[str] = self.order["namespaces"]
        privileged = "user" in own or (os.geteuid() == 0 and self.order.get("uid") is None)
        return [name for name in order.namespaces if name in own] if privileged else []

    def parts_processes(self) -> bool:
        """Whether its forks can have PID namespaces, and so run in cells."""
        own: list[str] = self.order["namespaces"]
        return "pid" in own and ("user" in own or (os.geteuid() == 0 and self.order.get("uid") is None))

    def map_user(self) -> None:
        """Give it its user id in the user namespace that it has made. Raises ``OSError``."""
        uid, gid = self.order.get("uid"), self.order.get("gid")
        uid = os.geteuid() if uid is None else uid
        map_other(self.pid, (uid, os.getegid() if gid is None else gid))
        try:
            self.user_namespace = os.open(f"/proc/{self.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return  # then its children make their mounts themselves
        if self.ground is not None and not mounts.can_copy(self.user_namespace):
            self.ground = None

    def mounts_for(self, order: Order) -> mounts.Mounts | None:
        """The mounts of a program; None: it makes them itself. Raises ``OSError``."""
        if self.user_namespace < 0 or "mount" not in order.namespaces:
            return None
        made = None if self.ground is None else self.ground.mounts(order)
        return mounts.make(order, self.user_namespace) if made is None else made

    def end(self) -> None:
        """End it. What it has forked goes on."""
        if self.pid:
            os.kill(self.pid, signals.SIGKILL)


class WarmShim:
    """The loop over the node's messages, the parent's, and the runs."""

    __slots__ = ("_early", "cells", "control", "groups", "groups_count_processes", "loop", "parent")

    def __init__(self, control: Control, parent: Parent, loop: Loop) -> None:
        self.control: Control | None = control
        self.parent = parent
        self.loop = loop
        self.cells = Cells(loop, self._ask_for_cell)
        self.groups = Groups()
        self._early: dict[int, tuple[int, struct_rusage]] = {}
        """Children that ended before the parent had told whose they are."""
        self.groups_count_processes = False
        """Whether the last control group did."""
        loop.others[control.fileno()] = self._hear_node
        loop.another_ended = self._another_ended

    def serve(self) -> None:
        """Until the node has hung up and no run is left."""
        try:
            self.parent.start()
        except OSError as error:
            self._lose_parent(str(error.strerror or error))
        if self.parent.control is not None:
            self.loop.others[self.parent.control.fileno()] = self._hear_parent
        while self.control is not None or self.loop.runs:
            self.loop.turn()
            if self.control is None and not any(run.is_being_born for run in self._runs()):
                self.parent.end()
            elif not self.loop.runs and self.parent.is_ready:
                self._rest()
        self.groups.end()

    def _runs(self) -> list[WarmRun]:
        return [run for run in self.loop.runs if isinstance(run, WarmRun)]

    def _rest(self) -> None:
        """Nothing runs."""
        self.groups.rest()
        try:
            if self.parent.parts_processes():
                self.cells.rest()
        except OSError:
            pass  # the next launch will tell what is wrong

    # -------------------------------------------------------------------------------------------------------- node

    def _tell(self, record: "Record") -> None:
        if self.control is not None:
            self.control.tell(record)

    def _hear_node(self) -> None:
        control = self.control
        received = None if control is None else control.receive()
        if control is None or received is None:
            if control is not None:
                del self.loop.others[control.fileno()]
                control.close()
            self.control = None
            return
        message, descriptors = received
        number = message.get("number")
        try:
            self._launch(message, descriptors)
        except (OSError, ValueError, KeyError) as error:
            for descriptor in descriptors:
                os.close(descriptor)
            self._tell({"number": number, "error": str(error)})

    def _launch(self, message: "Record", descriptors: list[int]) -> None:
        """Have the parent fork a program. Raises ``OSError`` or ``ValueError`` in a sentence, nothing being begun, and
        the descriptors still the caller's."""
        parent = self.parent
        if message.get("op") != "launch":
            raise ValueError("Only launches are understood here.")
        if parent.control is None or not parent.is_ready:
            raise ValueError(parent.failed or "The warm parent is not ready yet.")
        launch = descriptors_of(descriptors)
        order = read_order(os.dup(launch.order))
        if order.program is None:
            raise ValueError("The launch order has no `program` for a warm parent.")
        wanted, order.namespaces = order.namespaces, parent.namespaces_for(order)
        clients = Clients(launch.listening)
        holding = [launch.folder, launch.errors, launch.order, *launch.holding, launch.lock]
        run = WarmRun(order, launch.folder, clients, self.loop, holding, self.groups, int(message["number"]))
        if wanted and not order.namespaces:
            run.missing.append(NO_NAMESPACES)
        self.loop.runs.append(run)
        self._tell({"number": run.number, "shim_pid": os.getpid()})
        try:
            if run.open_log():
                self._have_forked(parent.control, run)
        except OSError as error:
            run.launch.failed = failure("launch", error)
            run.over = True

    def _have_forked(self, parent: Control, run: WarmRun) -> None:
        """Have it forked, and make its control group meanwhile; before that, where the program may have to be told a
        limit which no group can set. Raises ``OSError``."""
        if not self.groups_count_processes:
            run.make_group()
        self._ask(parent, run)
        if self.groups_count_processes:
            run.make_group()
        self.groups_count_processes = run.group is not None and "pids" in run.group.controllers

    def _ask(self, parent: Control, run: WarmRun) -> None:
        """Make what the run needs, and hand it to a cell, or to the parent. Raises ``OSError``."""
        run.mounts = self.parent.mounts_for(run.order)
        heard, status = os.pipe()
        waiting, release = os.pipe()
        os.set_blocking(heard, False)
        run.launch.status, run.launch.release = heard, release
        ordered = _in_memory(run.told())
        given = [ordered, run.log, status, waiting, *([] if run.mounts is None else run.mounts.descriptors)]
        try:
            if run.is_for_a_cell():
                run.cell = self.cells.take(run, given)
                taken = run.cell is not None
            else:
                taken = parent.tell({"op": "run", "number": run.number}, given)
        finally:
            for descriptor in (ordered, status, waiting):
                os.close(descriptor)
            if run.mounts is not None:
                run.mounts.close()
        if not taken:
            run.refuse("The warm parent does not take any launch.")
        elif run.cell is not None and run.cell.pid:
            run.adopt(run.cell.pid)

    def _ask_for_cell(self, message: "Record", descriptors: "list[int]") -> bool:
        parent = self.parent
        return parent.is_ready and parent.control is not None and parent.control.tell(message, descriptors)

    # ------------------------------------------------------------------------------------------------------ parent

    def _hear_parent(self) -> None:
        parent = self.parent
        received = None if parent.control is None else parent.control.receive()
        if received is None:
            self._hang_up()
            return
        message, descriptors = received
        for descriptor in descriptors:
            os.close(descriptor)
        event = message.get("event")
        if event == "loaded":
            parent.loaded = message
        elif event == "spoilt":
            parent.spoilt.update(message["failed"])
            parent.preload()
        elif event == "unshared":
            self._map_user()
        elif event == "ready":
            parent.is_ready = True
            self._tell(
                {
                    "event": "ready",
                    "preload_ms": parent.loaded.get("ms"),
                    "modules": parent.order.get("preload"),
                    "failed": {**(parent.loaded.get("failed") or {}), **parent.spoilt},
                }
            )
        elif event == "failed":
            self._lose_parent(str(message.get("message")))
        elif event in ("forked", "refused"):
            self._forked(message)

    def _map_user(self) -> None:
        try:
            self.parent.map_user()
        except OSError as error:
            self._lose_parent(f"The warm parent got no user namespace: {error.strerror}.")
            self.parent.end()
            return
        if self.parent.control is not None:
            self.parent.control.tell({"op": "mapped"})

    def _forked(self, message: "Record") -> None:
        """The parent has forked what it was asked for, or could not."""
        number, pid = int(message["number"]), int(message.get("pid", 0))
        why = "" if pid else f"The warm parent could not fork: {message.get('message')}"
        if pid and pid not in self._early and not processes.is_child(pid):
            why = "The warm parent named a process that is none of its forks."
        run = next((run for run in self._runs() if run.number == number and run.is_being_born), None)
        cell = self.cells.refused(number) if why else self.cells.forked(number, pid)
        if cell is not None:
            tenant = cell.tenant
            run = tenant if isinstance(tenant, WarmRun) else None
        if run is None:
            if pid in self._early:
                self.cells.ended(pid)
        elif why:
            run.refuse(why)
        else:
            if cell is None:
                run.adopt(pid)
            if pid in self._early:
                run.reaped(pid, *self._early[pid])
        self._early.pop(pid, None)

    def _lose_parent(self, message: str, *, sudden: bool = False) -> None:
        """Say once that the parent forks nothing (any more); runs that are being born will not be. ``sudden``: it had
        said nothing of it itself."""
        parent = self.parent
        if not parent.failed:
            parent.failed = message
            self._tell({"event": "gone" if parent.is_ready else "failed", "message": message, "sudden": sudden})
        parent.is_ready = False
        self.cells.lose_parent()
        for run in self._runs():
            run.refuse(message)

    def _hang_up(self) -> None:
        parent = self.parent
        if parent.control is not None:
            del self.loop.others[parent.control.fileno()]
            parent.control.close()
            parent.control = None
        self._lose_parent(GONE, sudden=True)

    def _another_ended(self, pid: int, status: int, usage: "struct_rusage") -> None:
        if pid == self.parent.pid:
            self.parent.pid = 0
            code = os.waitstatus_to_exitcode(status)
            how = f"with exit code {code}" if code >= 0 else f"of signal {-code}"
            while self.parent.control is not None and self.loop.is_readable(self.parent.control.fileno()):
                self._hear_parent()  # what it said last
            self._lose_parent(f"The warm parent ended {how}.", sudden=code < 0)
        elif self.cells.is_expecting() or any(run.is_being_born for run in self._runs()):
            self._early[pid] = (status, usage)
        else:
            self._early.clear()
            self.cells.ended(pid)


def _in_memory(record: "Record") -> int:
    descriptor = os.memfd_create("order", os.MFD_CLOEXEC)
    text = encode(record).encode("utf-8", "surrogateescape")
    while text:
        text = text[os.write(descriptor, text) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _above(descriptor: int) -> int:
    """A copy of a descriptor whose number is none of those that are given away."""
    while descriptor <= AT:
        descriptor = os.dup(descriptor)
    return descriptor


def _let_go(heard: int, release: int) -> None:
    """Wait until the parent is confined, give it leave, and wait until it is its program. Raises ``OSError``."""
    try:
        text = b""
        while chunk := os.read(heard, 4096):
            text += chunk
            if b'"ready"' in text and release >= 0:
                os.write(release, b"1")
                os.close(release)
                release = -1
        *lines, _ = text.split(b"\n")
        failed = next((report for line in lines if "stage" in (report := decode(line))), None)
        if failed is not None or release >= 0:
            raise OSError(0, str(failed["message"]) if failed else "The warm parent was killed before it began.")
    finally:
        os.close(heard)
        if release >= 0:
            os.close(release)


def _be_killed_as_others() -> None:
    """Be as likely to be killed for want of memory as any process, and have children that are."""
    try:
        _write("/proc/self/oom_score_adj", "0")
    except OSError:
        pass  # it was never made less likely


def _protect() -> None:
    """All runs end with this process: where that is allowed, it is not killed for want of memory."""
    try:
        _write("/proc/self/oom_score_adj", NEVER_KILLED)
    except OSError:
        pass  # only root may


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def main(arguments: list[str]) -> "NoReturn":
    """Start a warm parent and be the shim of its programs; ends the process."""
    named = dict(zip(arguments[::2], arguments[1::2], strict=True))
    loop = Loop(prepare())
    control = Control(int(named["--control-fd"]))
    os.set_blocking(control.fileno(), False)
    ordered = int(named["--order-fd"])
    text = b""
    while chunk := os.read(ordered, 1 << 16):
        text += chunk
    os.close(ordered)
    _protect()
    cgroups.remember()
    shim = WarmShim(control, Parent(decode(text)), loop)
    try:
        shim.serve()
    except BaseException:
        for run in loop.runs:
            run.kill()  # a mistake of ours must not leave programs that nobody watches
        raise
    os._exit(0)
