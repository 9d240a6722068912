"""The launch order, and how a forked child becomes the program that it names."""

import os
from errno import EPERM

from runyard.shim import cgroups, view
from runyard.shim.lean import (
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    decode,
    encode,
    libc,
    prctl,
    signals,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType
    from typing import Any, NoReturn

RLIMIT_CORE = 4  # asm-generic/resource.h; what is set is soft and hard, each a 64-bit word
ADVICE = {
    "log": "The log could not be opened: the node must make its folder.",
    "session": "The program could not get a session of its own.",
    "cgroup": "The program could not be put into its control group.",
    "view": "The paths that the program needs lie below folders closed to its user, and could not be bound into a "
    "view of its own: the node must run as root with leave to mount, or keep them where every user can pass.",
    "shm": "The program could not get a /dev/shm of its own (`shm`): the node must run as root with leave to mount, "
    "or user namespaces be allowed.",
    "network": "The program could not be cut off from the network (`network: off`): the node must run as root "
    "with leave to make network namespaces, or user namespaces be allowed.",
    "user": "The program's user could not be taken on: the node must run as root, or give no user.",
    "filter": "The system calls that programs are refused could not be kept from it.",
    "cwd": "The working directory cannot be entered by the program's user: is it among the visible paths?",
    "container": "The container engine could not be started.",
    "exec": "The interpreter of the command cannot be executed by the program's user: is it among the visible paths?",
}
"""What each stage of a launch says when it fails, beside the system's own words."""


class Order:
    """What to start and within which bounds, as the node says it. It holds secrets: it is never written or printed."""

    __slots__ = (
        "argv",
        "attempt",
        "cgroup",
        "cgroup_name",
        "closed_devices",
        "container",
        "cwd",
        "env",
        "fixed",
        "gid",
        "grace_s",
        "groups",
        "hide",
        "log",
        "max_runtime_s",
        "missing",
        "namespaces",
        "network",
        "nice",
        "open_calls",
        "program",
        "read_only",
        "shm_mib",
        "tmp",
        "uid",
        "visible",
        "way_note",
        "writable",
    )

    def __init__(self, fields: "Mapping[str, Any]") -> None:
        self.attempt = str(fields["attempt"])
        self.argv: list[str] = list(fields["argv"])
        self.env: dict[str, str] = dict(fields["env"])
        self.cwd = str(fields["cwd"])
        self.log = str(fields["log"])
        self.uid: int | None = fields.get("uid")
        self.gid: int | None = fields.get("gid")
        self.groups: list[int] = list(fields.get("groups") or [])
        self.cgroup: dict[str, Any] | None = fields.get("cgroup")
        self.cgroup_name = "" if self.cgroup is None else str(self.cgroup["name"])
        self.max_runtime_s: float | None = fields.get("max_runtime_s")
        self.grace_s = float(fields.get("grace_s", 30.0))
        self.visible: list[str] = list(fields.get("visible") or [])
        self.shm_mib: int | None = fields.get("shm_mib")
        self.network = bool(fields.get("network", True))
        self.nice = int(fields.get("nice") or 0)
        self.namespaces: list[str] = list(fields.get("namespaces") or [])
        self.closed_devices: list[str] = list(fields.get("closed_devices") or [])
        self.fixed: list[str] = list(fields.get("fixed") or [])
        self.read_only: list[str] = list(fields.get("read_only") or [])
        self.writable: list[str] = list(fields.get("writable") or [])
        self.tmp: str | None = fields.get("tmp")
        self.open_calls: list[str] = list(fields.get("open_calls") or [])
        self.missing: list[str] = list(fields.get("missing") or [])
        self.hide: list[str] = list(fields.get("hide") or [])
        self.program: dict[str, Any] | None = fields.get("program")
        self.container: dict[str, Any] | None = fields.get("container")
        self.way_note = str(fields.get("way_note") or "")


def read_order(descriptor: int) -> Order:
    """Read the launch order to its end. Raises ``ValueError`` in a sentence that quotes nothing of it."""
    text = bytearray()
    while chunk := os.read(descriptor, 1 << 16):
        text += chunk
    os.close(descriptor)
    try:
        return Order(decode(bytes(text)))
    except (KeyError, TypeError, ValueError) as error:
        missing = f" without {error}" if isinstance(error, KeyError) else ""
        raise ValueError(
            f"The launch order is not one JSON object as agreed{missing}: the node must send it whole."
        ) from None


class Child:
    """The forked child: its order, and the descriptors that tie it to the shim until it is the program. Born in a PID
    namespace it becomes the init of the program instead, and the program a child of it."""

    __slots__ = (
        "filtered",
        "folders",
        "kept",
        "log",
        "most_processes",
        "namespaces",
        "order",
        "release",
        "shim",
        "status",
        "user",
    )

    def __init__(self, order: Order, namespaces: list[str], folders: list[str], log: int) -> None:
        self.order = order
        self.namespaces = namespaces
        """Those that it is born in."""
        self.folders = folders
        """Of its control group, still to be joined."""
        self.log = log
        self.kept: tuple[int, ...] = ()
        """Other descriptors that it is to have."""
        self.filtered = True
        """Whether system calls are refused to it; else it does so for what it forks."""
        self.most_processes: int | None = None
        """That it may have in its user namespace, where no control group says so."""
        self.status = -1
        """Where it reports: a line when ready, a line when a stage failed, the end once it is the program."""
        self.release = -1
        """Where it waits for the shim's leave."""
        self.shim = 0
        self.user = (os.geteuid(), os.getegid())
        """The shim's own, which the child does not see before it has it in its new user namespace."""

    def become(self, status: int, release: int, shim: int) -> "NoReturn":
        """Confine the calling process stage by stage, wait for leave, and execute the program."""
        self.status, self.release, self.shim = status, release, shim
        stage = "session"
        try:
            _session(self)
            if "user" in self.namespaces:
                stage = "user"
                _isolation().map_user(self.user)
                _isolation().bound_processes(self.most_processes)
            stage = "cgroup"
            problems = cgroups.join(self.folders)
            stage = "view"
            closed = _confine_view(self)
            stage = "shm"
            missing = _own_places(self)
            stage = "network"
            if not self.order.network:
                _isolation().cut_network()
            stage = "user"
            _take_user(self)
            stage = "cwd"
            os.chdir(_bytes(self.order.cwd))
            if self.filtered:
                missing = missing + _seccomp().missing()
            ready = {"missing": missing, "view": list(closed), "outside": problems}
            if "pid" in self.namespaces:
                _init().serve(status, release, ready, self._execute_as_child, failure, self._spawn, self._refuse)
            self._report({"ready": True, **ready})
            stage = "filter"
            self._refuse()
            if os.read(release, 1):
                stage = "exec"
                self._execute()
        except OSError as error:
            self._report(failure(stage, error))
        except (
            Exception
        ) as error:  # a mistake of ours ends the launch with its stage, never runs the program unconfined
            self._report(failure(stage, OSError(0, type(error).__name__)))
        os._exit(127)

    def keep(self, status: int, release: int, shim: int) -> "NoReturn":
        """Become the keeper of the order's container instead."""
        self.status, self.release, self.shim = status, release, shim
        try:
            _session(self)
            _container().become_keeper(self.order.container, self.folders, status, release)
        except Exception as error:  # as in `become`
            self._report(
                failure("container", error if isinstance(error, OSError) else OSError(0, type(error).__name__))
            )
        os._exit(127)

    def _refuse(self) -> None:
        if self.filtered:
            _scope().enclose(self.order.open_calls)
        if self.filtered and not _seccomp().missing():
            _seccomp().refuse("pid" in self.namespaces, self.order.open_calls)

    def _execute(self) -> "NoReturn":
        argv = [_bytes(word) for word in self.order.argv]
        os.execve(argv[0], argv, {_bytes(key): _bytes(value) for key, value in self.order.env.items()})

    def _execute_as_child(self, _birth: object) -> "NoReturn":
        os.setsid()
        self._execute()

    def _spawn(self) -> int:
        """Start the program as a child that shares this process's memory until it is the program: posix_spawn(3) copies
        nothing of it, as fork(2) does. Raises ``OSError``."""
        argv = [_bytes(word) for word in self.order.argv]
        env = {_bytes(key): _bytes(value) for key, value in self.order.env.items()}
        return os.posix_spawn(argv[0], argv, env, setsid=True, setsigmask=())

    def _report(self, record: "Mapping[str, object]") -> None:
        os.write(self.status, encode(dict(record)).encode() + b"\n")


def failure(stage: str, error: OSError) -> "dict[str, object]":
    """The record of a launch that failed: its stage, errno, and a sentence."""
    what = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    told = ": ".join(filter(None, [what, error.strerror or ""]))
    return {"stage": stage, "errno": error.errno or None, "message": f"{ADVICE.get(stage, '')} ({told})".strip()}


def _bytes(text: str) -> bytes:
    """As the order spelled it, whatever the shim's own locale is."""
    return text.encode("utf-8", "surrogateescape")


def _session(child: Child) -> None:
    """A session of its own, the default signals, and no descriptor but the log and the two pipes."""
    signals.set_wakeup_fd(-1)
    for number in signals.valid_signals() - {signals.SIGKILL, signals.SIGSTOP}:
        signals.signal(number, signals.SIG_DFL)
    signals.pthread_sigmask(signals.SIG_SETMASK, ())
    null = os.open("/dev/null", os.O_RDONLY)
    for source, target in ((null, 0), (child.log, 1), (child.log, 2)):
        os.dup2(source, target)
    kept = {0, 1, 2, *child.kept, child.status, child.release}
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                pass  # the listing's own, closed with it
    os.setsid()
    os.umask(0o022)
    libc("setrlimit", RLIMIT_CORE, bytes(16))
    _die_with(child)
    if child.order.nice:
        os.nice(child.order.nice)


def _die_with(child: Child) -> None:
    """Be killed when the shim ends, or now if it has. One in a PID namespace cannot see whether it has; it finds that
    nobody is left to give it leave."""
    prctl(PR_SET_PDEATHSIG, signals.SIGKILL)
    if os.getppid() != child.shim and "pid" not in child.namespaces:
        os._exit(127)


def _isolation() -> "ModuleType":
    from runyard.shim import isolation  # noqa: PLC0415 - start-up time of those that need none

    return isolation


def _init() -> "ModuleType":
    from runyard.shim import init  # noqa: PLC0415 - as above

    return init


def _container() -> "ModuleType":
    from runyard.shim import container  # noqa: PLC0415 - as above

    return container


def _scope() -> "ModuleType":
    from runyard.shim import scope  # noqa: PLC0415 - as above

    return scope


def _seccomp() -> "ModuleType":
    from runyard.shim import seccomp  # noqa: PLC0415 - as above

    return seccomp


def _confine_view(child: Child) -> dict[str, list[str]]:
    """Cover what is closed to the program's user, and what is hidden from it; says which folders were covered."""
    order = child.order
    own = "mount" in child.namespaces
    if os.geteuid() != 0 and not own:
        return {}
    closed = plan(order, own)
    if own:
        view.own_mounts(born=True)
        view.cover(closed, sources(order))
    else:
        view.make(closed)
    return closed


def plan(order: Order, own: bool = True, looked: "view.Looked | None" = None) -> dict[str, list[str]]:
    """What of the file system is covered for an order's program; ``own``: it has mounts of its own from its birth;
    ``looked``: see :func:`runyard.shim.view.plan`."""
    hide, tmp = (order.hide, view.TMP) if own else ((), ())
    tmp = tmp if order.tmp else ()
    return view.plan(order.visible, order.uid, groups_of(order), hide, order.fixed, tmp, looked)


def groups_of(order: Order) -> "tuple[int, ...]":
    """All groups of an order's user; where that is the shim's own, only what it would be by its number."""
    gid = order.gid if order.gid is not None else order.uid or 0
    return (gid, *order.groups)


def sources(order: Order) -> dict[str, str]:
    """What lies behind paths of a plan that are not what they say, or must be nothing else; see
    :func:`runyard.shim.view.opened`."""
    return view.sources(order.fixed, order.tmp)


def _own_places(child: Child) -> list[str]:
    """A ``/proc`` and a ``/dev/shm`` that go with its namespaces; returns sentences on what could not be had."""
    shm_mib = child.order.shm_mib
    order = child.order
    if "mount" in child.namespaces:
        missing: list[str] = _isolation().seal(order.read_only, order.writable)
        missing += _isolation().own_places(child.namespaces, shm_mib)
        missing += _isolation().close_devices(order.closed_devices)
        return missing + _isolation().close_folders(order.read_only, order.writable)
    if shm_mib is not None:
        _isolation().own_shm(shm_mib)
    left = [_isolation().OPEN_DEVICES] if order.closed_devices else []
    everything = _isolation().EVERYTHING in order.read_only
    left += [_isolation().OPEN_MACHINE if everything else _isolation().OPEN_FOLDERS] if order.read_only else []
    return [f"{sentence}: it has no mounts of its own." for sentence in left]


def _take_user(child: Child) -> None:
    """Drop to the order's user, for good; the kernel forgets whom to die with when a user changes, so that is last."""
    order = child.order
    if order.uid is not None and order.uid != os.geteuid():
        gid = order.gid if order.gid is not None else order.uid
        os.setgroups(order.groups)
        os.setgid(gid)
        os.setuid(order.uid)
        if os.getresuid() != (order.uid,) * 3 or os.getresgid() != (gid,) * 3:
            raise OSError(EPERM, "the user did not change")
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    _die_with(child)
