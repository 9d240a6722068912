"""The launch order, and how a forked child becomes the program that it names."""

import os
from errno import EPERM

from runyard.shim import cgroups, view
from runyard.shim.lean import (
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    decode,
    encode,
    prctl,
    signals,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType
    from typing import Any, NoReturn

ADVICE = {
    "log": "The log could not be opened: the node must make its folder.",
    "session": "The program could not get a session of its own.",
    "cgroup": "The program could not be put into its control group.",
    "view": "The paths that the program needs lie below folders closed to its user, and could not be bound into a "
    "view of its own: the node must run as root with leave to mount, or keep them where every user can pass.",
    "shm": "The program could not get a /dev/shm of its own (`shm`): the node must run as root with leave to mount.",
    "network": "The program could not be cut off from the network (`network: off`): the node must run as root "
    "with leave to make network namespaces.",
    "user": "The program's user could not be taken on: the node must run as root, or give no user.",
    "cwd": "The working directory cannot be entered by the program's user: is it among the visible paths?",
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
        "cwd",
        "env",
        "gid",
        "grace_s",
        "log",
        "max_runtime_s",
        "network",
        "nice",
        "shm_mib",
        "uid",
        "visible",
    )

    def __init__(self, fields: "Mapping[str, Any]") -> None:
        self.attempt = str(fields["attempt"])
        self.argv: list[str] = list(fields["argv"])
        self.env: dict[str, str] = dict(fields["env"])
        self.cwd = str(fields["cwd"])
        self.log = str(fields["log"])
        self.uid: int | None = fields.get("uid")
        self.gid: int | None = fields.get("gid")
        self.cgroup: dict[str, Any] | None = fields.get("cgroup")
        self.cgroup_name = "" if self.cgroup is None else str(self.cgroup["name"])
        self.max_runtime_s: float | None = fields.get("max_runtime_s")
        self.grace_s = float(fields.get("grace_s", 30.0))
        self.visible: list[str] = list(fields.get("visible") or [])
        self.shm_mib: int | None = fields.get("shm_mib")
        self.network = bool(fields.get("network", True))
        self.nice = int(fields.get("nice") or 0)


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
    """The forked child: its order, and the descriptors that tie it to the shim until it is the program."""

    __slots__ = ("folders", "log", "order", "release", "shim", "status")

    def __init__(self, order: Order, folders: list[str], log: int, status: int, release: int, shim: int) -> None:
        self.order = order
        self.folders = folders
        """Of its control group, still to be joined."""
        self.log = log
        self.status = status
        """Where it reports: a line when ready, a line when a stage failed, the end once it is the program."""
        self.release = release
        """Where it waits for the shim's leave."""
        self.shim = shim

    def become(self) -> "NoReturn":
        """Confine the calling process stage by stage, wait for leave, and execute the program."""
        stage = "session"
        try:
            _session(self)
            stage = "cgroup"
            problems = cgroups.join(self.folders)
            stage = "view"
            closed = _confine_view(self.order)
            stage = "shm"
            if self.order.shm_mib is not None:
                _isolation().own_shm(self.order.shm_mib)
            stage = "network"
            if not self.order.network:
                _isolation().cut_network()
            stage = "user"
            _take_user(self)
            stage = "cwd"
            os.chdir(_bytes(self.order.cwd))
            self._report({"ready": True, "missing": problems, "view": list(closed)})
            if os.read(self.release, 1):
                stage = "exec"
                argv = [_bytes(word) for word in self.order.argv]
                os.execve(argv[0], argv, {_bytes(key): _bytes(value) for key, value in self.order.env.items()})
        except OSError as error:
            self._report(failure(stage, error))
        except (
            Exception
        ) as error:  # a mistake of ours ends the launch with its stage, never runs the program unconfined
            self._report(failure(stage, OSError(0, type(error).__name__)))
        os._exit(127)

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
    kept = {0, 1, 2, child.status, child.release}
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                pass  # the listing's own, closed with it
    os.setsid()
    os.umask(0o022)
    _die_with(child.shim)
    if child.order.nice:
        os.nice(child.order.nice)


def _die_with(shim: int) -> None:
    """Be killed when the shim ends, or now if it has."""
    prctl(PR_SET_PDEATHSIG, signals.SIGKILL)
    if os.getppid() != shim:
        os._exit(127)


def _isolation() -> "ModuleType":
    from runyard.shim import isolation  # noqa: PLC0415 - start-up time of those that need none

    return isolation


def _confine_view(order: Order) -> dict[str, list[str]]:
    if order.uid is None or os.geteuid() != 0:
        return {}
    closed = view.plan(order.visible, order.uid, order.gid if order.gid is not None else order.uid)
    view.make(closed)
    return closed


def _take_user(child: Child) -> None:
    """Drop to the order's user, for good; the kernel forgets whom to die with when a user changes, so that is last."""
    order = child.order
    if order.uid is not None and order.uid != os.geteuid():
        gid = order.gid if order.gid is not None else order.uid
        os.setgroups([])
        os.setgid(gid)
        os.setuid(order.uid)
        if os.getresuid() != (order.uid,) * 3 or os.getresgid() != (gid,) * 3:
            raise OSError(EPERM, "the user did not change")
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    _die_with(child.shim)
