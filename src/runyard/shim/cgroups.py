"""One control group per attempt: limits, membership, evidence of memory kills, and the certain end of every member.

Version 1 hierarchies (memory, cpu, pids, freezer; kernel documentation, admin-guide/cgroup-v1) and the unified one
(admin-guide/cgroup-v2), whichever the machine has. Nothing here is required: what cannot be had is a sentence in
:attr:`Group.missing`. The node imports :func:`cgroup_paths` and :func:`kill_cgroup` for a shim that was killed.
"""

import os
import time
from errno import EACCES, ENOENT, EPERM, EROFS

from runyard.shim import processes
from runyard.shim.lean import signals

LIMITS = ("memory_bytes", "cpu_millis", "pids")
LIMITED = ("memory", "cpu", "pids")
PERIOD_US = 100_000
"""The kernel's own for a new group, too (sched-bwc, default_cfs_period)."""

NOT_OURS = (EACCES, EPERM, EROFS)
NONE = "No {0} limit: this machine gives no {0} control group here."
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Limits = Mapping[str, int | None]


class Group:
    """A control group: its folders, the controllers that act on it, and sentences on what is missing."""

    __slots__ = ("controllers", "folders", "memory", "missing", "name", "unified")

    def __init__(self, name: str) -> None:
        self.name = name
        self.folders: list[str] = []
        self.memory: str | None = None
        """The one of the folders in which memory is counted."""
        self.unified: str | None = None
        """The one of the folders that is of version 2."""
        self.controllers: set[str] = set()
        self.missing: list[str] = []

    def record(self) -> "dict[str, object]":
        """What is kept of it: name, active controllers, folders, and the sentences on what is missing (or None)."""
        return {
            "name": self.name,
            "controllers": sorted(self.controllers),
            "folders": list(self.folders),
            "missing": " ".join(self.missing) or None,
        }


# -------------------------------------------------------------------------------------------------- where they are


def bound_otherwise(group: Group | None, controller: str) -> None:
    """Take back that a limit is missing, which something else gives."""
    sentence = NONE.format(controller)
    if group is not None and sentence in group.missing:
        group.missing.remove(sentence)


class Hierarchy:
    """A mounted control group file system; ``bases`` are the folders to make groups in, the best one first."""

    __slots__ = ("bases", "controllers", "unified")

    def __init__(self, controllers: set[str], unified: bool, bases: list[str]) -> None:
        self.controllers = controllers
        self.unified = unified
        self.bases = bases


def hierarchies(mountinfo: str | None = None, membership: str | None = None) -> list[Hierarchy]:
    """The machine's hierarchies, from /proc/self/mountinfo and /proc/self/cgroup (or texts of their form)."""
    own: dict[str, str] = {}
    for line in (_read("/proc/self/cgroup") if membership is None else membership).splitlines():
        _, names, path = line.split(":", 2)
        own.update(dict.fromkeys(names.split(","), path))
    found: list[Hierarchy] = []
    for line in (_read("/proc/self/mountinfo") if mountinfo is None else mountinfo).splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind not in ("cgroup", "cgroup2"):
            continue
        root, mount = left.split(" ")[3:5]
        mount = mount.replace("\\040", " ")
        unified = kind == "cgroup2"
        names = {""} if unified else set(options.split(",")) & own.keys()
        path = next((own[name] for name in sorted(names) if name in own), None)
        if path is None:
            continue
        bases = [mount]
        if path.startswith(root.rstrip("/") + "/") and path != root and path != "/":
            own_folder = mount + path.removeprefix(root.rstrip("/"))
            # A delegated group of version 2 is the own one's parent where the node sits in a leaf, as it should.
            above = [os.path.dirname(own_folder)] if unified else []
            bases = list(dict.fromkeys([own_folder, *above, mount]))
        if unified:  # a group that has few of them says nothing of what a base above it can hand down
            names = {name for base in bases for name in _read(base + "/cgroup.controllers").split()}
        found.append(Hierarchy(names, unified, bases))
    return found


_remembered: list[Hierarchy] = []


def remember() -> None:
    """Find the hierarchies now, for all groups that this process and its forks make."""
    _remembered[:] = hierarchies()


def cgroup_paths(name: str, recorded: "Iterable[str]" = ()) -> list[str]:
    """The folders of a group that exist: those noted in a start record, and those where it would be made from here."""
    places = [f"{base}/{name}" for hierarchy in hierarchies() for base in hierarchy.bases]
    return [path for path in dict.fromkeys([*recorded, *places]) if os.path.isdir(path)]


# ----------------------------------------------------------------------------------------------------------- making


def settings(limits: "Limits", unified: bool) -> dict[str, list[tuple[str, str]]]:
    """Which files hold the limits, by controller, in the order of writing. Swap is counted in, so that going over
    the memory limit ends at the limit."""
    memory, cpu, pids = (limits.get(name) for name in LIMITS)
    quota = None if cpu is None else max(1000, cpu * PERIOD_US // 1000)
    files: dict[str, list[tuple[str, str]]] = {}
    if memory is not None:
        files["memory"] = (
            [("memory.max", str(memory)), ("memory.swap.max", "0")]
            if unified
            else [("memory.limit_in_bytes", str(memory)), ("memory.memsw.limit_in_bytes", str(memory))]
        )
    if quota is not None:
        files["cpu"] = (
            [("cpu.max", f"{quota} {PERIOD_US}")]
            if unified
            else [("cpu.cfs_quota_us", str(quota))]  # of a new group's own period, PERIOD_US
        )
    if pids is not None:
        files["pids"] = [("pids.max", str(pids))]
    return files


def create(name: str, limits: "Limits", found: list[Hierarchy] | None = None) -> Group:
    """Make the group in every hierarchy that has a use, and set its limits. Never raises; see ``Group.missing``."""
    group = Group(name)
    found = (_remembered or hierarchies()) if found is None else found
    for hierarchy in found:
        if not hierarchy.unified:
            for controller in (*LIMITED, "freezer"):
                if controller in hierarchy.controllers:
                    _create_v1(group, controller, hierarchy, limits)
    for hierarchy in found:
        # Joining it costs milliseconds, so only where it has something to give: a limit, or the means to kill.
        if hierarchy.unified and ("freezer" not in group.controllers or hierarchy.controllers & set(LIMITED)):
            _create_unified(group, hierarchy, limits)
    for limit, controller in zip(LIMITS, LIMITED, strict=True):
        if limits.get(limit) is not None and controller not in group.controllers:
            group.missing.append(NONE.format(controller))
    return group


def _create_v1(group: Group, controller: str, hierarchy: Hierarchy, limits: "Limits") -> None:
    folder = _make(group, hierarchy.bases)
    if folder is not None:
        group.controllers.add(controller)
        if folder not in group.folders:  # two controllers may share one mount
            group.folders.append(folder)
        if controller == "memory":
            group.memory = folder
        _set(group, folder, settings(limits, False).get(controller, []))


def _create_unified(group: Group, hierarchy: Hierarchy, limits: "Limits") -> None:
    wanted = sorted(hierarchy.controllers & set(LIMITED))
    folder = _make(group, _best_first(hierarchy.bases, group.name.rpartition("/")[0], wanted))
    if folder is None:
        return
    group.unified = folder
    group.folders.append(folder)
    active = set(_read(folder + "/cgroup.controllers").split()) & set(wanted)
    group.controllers |= active
    if "memory" in active:
        group.memory = folder
    for controller, files in settings(limits, True).items():
        if controller in active:
            _set(group, folder, files)


def _best_first(bases: list[str], parent: str, wanted: list[str]) -> list[str]:
    """The bases, first the one below which most of the wanted controllers have arrived in ``parent``. Those that could
    hand down fewer are not touched."""
    best, most = bases[0], -1
    for base in sorted(bases, key=lambda each: -_promised(each, wanted)):
        if _promised(base, wanted) <= max(most, 0):
            break
        arrived = _enable(base, parent, wanted)
        if arrived > most:
            best, most = base, arrived
    return [best, *bases]


def _promised(base: str, wanted: list[str]) -> int:
    """How many of the controllers a base could hand down. One that holds processes itself can none, unless it is the
    root: it cannot hand down memory, and handing down the others would make it a threaded domain."""
    if not os.access(base, os.W_OK) or (os.path.exists(base + "/cgroup.type") and _read(base + "/cgroup.procs")):
        return 0
    return len(set(_read(base + "/cgroup.controllers").split()).intersection(wanted))


def _enable(base: str, parent: str, controllers: list[str]) -> int:
    """Hand controllers down from a base to the group's parent below it, which is made; says how many arrived there."""
    whole = f"{base}/{parent}".rstrip("/")
    if set(controllers) <= set(_read(whole + "/cgroup.subtree_control").split()):
        return len(controllers)
    folder = base
    for part in ("", *filter(None, parent.split("/"))):
        folder = f"{folder}/{part}".rstrip("/")
        try:
            os.makedirs(folder, 0o755)
            _weigh(folder)
        except FileExistsError:
            pass
        except OSError:
            return -1
        for controller in controllers:
            write(folder + "/cgroup.subtree_control", "+" + controller)
    return len(set(_read(whole + "/cgroup.subtree_control").split()).intersection(controllers))


def _make(group: Group, bases: list[str]) -> str | None:
    problem = ""
    for base in bases:
        folder = f"{base}/{group.name}"
        try:
            try:
                os.mkdir(folder, 0o755)  # which it mostly takes
            except OSError:
                os.makedirs(folder, 0o755, exist_ok=True)
                for above in _above(base, group.name):
                    _weigh(above)
            return folder
        except OSError as error:
            if error.errno in NOT_OURS and os.geteuid() != 0:
                continue  # what is missing for it is told
            problem = f"Cannot make the control group {folder}: {error.strerror}."
    group.missing += [problem] if problem else []
    return None


def _above(base: str, name: str) -> list[str]:
    """The folders between a base and a group."""
    parts = name.split("/")[:-1]
    return [f"{base}/{'/'.join(parts[: count + 1])}" for count in range(len(parts))]


def _weigh(folder: str) -> None:
    """Give a group above programs' the weight of one process for each processor: new ones weigh as one process, which
    all programs of the machine would have to share wherever others compete with them for processors."""
    processors = len(os.sched_getaffinity(0))
    for file, weight in (("cpu.shares", 1024 * processors), ("cpu.weight", min(10_000, 100 * processors))):
        if os.path.exists(f"{folder}/{file}"):
            write(f"{folder}/{file}", str(weight))


def _set(group: Group, folder: str, files: list[tuple[str, str]]) -> None:
    for file, value in files:
        error = write(f"{folder}/{file}", value)
        if error is not None:
            group.missing.append(f"Cannot set {file} to {value}: {error.strerror}.")


# ------------------------------------------------------------------------------------------------------- membership


def join(folders: "Iterable[str]", pid: int = 0) -> list[str]:
    """Put a process (0: the calling one), which must have one thread, into a group; returns sentences on what failed.

    In version 1 through ``tasks``: moving a thread spares the lock over all of the machine's processes that
    ``cgroup.procs`` takes (5 to 30 ms where it has not been taken for a while).
    """
    problems: list[str] = []
    for folder in folders:
        error = write(folder + "/tasks", str(pid))
        if error is not None and error.errno == ENOENT:
            error = write(folder + "/cgroup.procs", str(pid))
        if error is not None:
            problems.append(f"The program is not in {folder}: {error.strerror}.")
    return problems


def members(folders: "Iterable[str]") -> list[int]:
    """The living processes of a group and of groups made below it, each once."""
    found: dict[int, None] = {}
    for folder in folders:
        for place, _, _ in os.walk(folder):
            found.update(dict.fromkeys(int(pid) for pid in _read(place + "/cgroup.procs").split()))
    return list(found)


def kill(folders: "Iterable[str]") -> None:
    """SIGKILL to every member at this moment; none slips away by forking where there is ``cgroup.kill`` or a freezer.

    They die soon after, not before, this returns.
    """
    folders = list(folders)
    if any([write(folder + "/cgroup.kill", "1") is None for folder in folders]):  # noqa: C419 - every one, not the first
        return
    try:
        for folder in folders:
            write(folder + "/freezer.state", "FROZEN")
        seen: set[int] = set()
        while fresh := set(members(folders)) - seen:
            seen |= fresh
            processes.signal_all(lambda: members(folders), (signals.SIGKILL,))
    finally:
        for folder in folders:
            write(folder + "/freezer.state", "THAWED")


def evidence(group: Group) -> tuple[int, int | None]:
    """How many members the kernel killed for want of memory, and the most bytes held at once, page cache included."""
    for said, most in EVIDENCE if group.memory is not None else ():
        events = _read(f"{group.memory}/{said}")
        if events:
            kills = [int(line.split()[1]) for line in events.splitlines() if line.startswith("oom_kill ")]
            peak = _read(f"{group.memory}/{most}").strip()
            return max(kills, default=0), int(peak) if peak else None
    return 0, None


EVIDENCE = (("memory.oom_control", "memory.max_usage_in_bytes"), ("memory.events", "memory.peak"))
"""Of version 1, and of version 2."""


def remove(folders: "Iterable[str]") -> list[str]:
    """Remove an empty group and the groups below it; returns the folders that are still there."""
    left: list[str] = []
    for folder in folders:
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError:
            left += _remove_below(folder)
    return left


def remove_unused(name: str) -> None:
    """Remove the group of this name wherever it is, if it has neither members nor groups below it: what a node that
    ends has made above those of its attempts. (Kept, they add up: setting a limit takes the kernel a look at each.)"""
    for hierarchy in hierarchies():
        for base in hierarchy.bases:
            try:
                os.rmdir(f"{base}/{name}")
            except OSError:
                pass  # it is in use, or not there


def _remove_below(folder: str) -> list[str]:
    """The same for a folder that has others in it."""
    left: list[str] = []
    for place, _, _ in os.walk(folder, topdown=False):
        try:
            os.rmdir(place)
        except OSError:
            left.append(place)
    return left


def kill_cgroup(name: str, recorded: "Iterable[str]" = (), within_s: float = 10.0) -> set[int]:
    """End every process of a group and remove it: for a node that finds its shim gone. Blocks, so not for a loop.

    ``recorded``: the folders that the attempt's start record names. Returns the processes still alive after
    ``within_s`` seconds (one that hangs inside the kernel); none: the group is gone.
    """
    folders = cgroup_paths(name, recorded)
    deadline, pause = time.monotonic() + within_s, 0.001
    while alive := set(members(folders)):
        kill(folders)
        if time.monotonic() > deadline:
            return alive
        time.sleep(pause)
        pause = min(0.1, pause * 2)
    remove(folders)
    return set()


# ------------------------------------------------------------------------------------------------------------ files


def _read(path: str) -> str:
    """The text of a kernel file, "" where there is none."""
    try:
        return processes.read(path).decode("utf-8", "replace")
    except OSError:
        return ""


def write(path: str, value: str) -> OSError | None:
    """Write to a kernel file; the error, where there is one."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        return error
    try:
        os.write(descriptor, value.encode())
    except OSError as error:
        return error
    finally:
        os.close(descriptor)
    return None
