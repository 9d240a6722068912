"""From the fork to the init of a run, or in a cell to the program: what it may see, and which rights it has."""

from __future__ import annotations

import os
import sys

from runyard.shim import init, isolation, scope, seccomp, trees, view
from runyard.shim.lean import PR_SET_DUMPABLE, PR_SET_PDEATHSIG, decode, encode, libc, prctl, signals
from runyard.shim.warm import program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from runyard.shim.lean import Record
    from runyard.shim.warm.ground import Ground

ADVICE = {
    "view": "The folders of other programs could not be hidden from this one.",
    "shm": "The program could not get a /dev/shm of its own (`shm`).",
    "network": "The program could not be cut off from the network (`network: off`).",
    "user": "The rights of the program's user namespace could not be given up.",
    "cwd": "The working directory cannot be entered by the program's user: is it among the visible paths?",
    "filter": "The system calls that programs are refused could not be kept from it.",
    "exec": "The program could not be started.",
}
CAPABILITIES_3 = 0x20080522
"""The version of struct __user_cap_header_struct with 64 capabilities (capget(2))."""


class Steps:
    """How far the confinement is, for the report of what fails."""

    __slots__ = ("stage",)

    def __init__(self) -> None:
        self.stage = "session"


class CellBirth(init.Birth):
    """What the fork of a cell holds while it becomes the program: it reports, and waits for leave, by itself."""

    __slots__ = ("_release",)

    def __init__(self, status: int, release: int) -> None:
        super().__init__(status)
        self.stage = "session"
        self._release = release

    def leave(self) -> None:
        """Wait for leave; ends the process where there will be none."""
        if not os.read(self._release, 1):
            os._exit(init.FAILED)
        os.close(self._release)

    def begun(self) -> None:
        """Say that the program begins. From here on it can be traced as any process of its user."""
        os.write(self.pipe, b'{"begun": true}\n')
        os.close(self.pipe)
        prctl(PR_SET_DUMPABLE, 1)

    def anew(self, why: str) -> None:
        """Say that the program begins, and why by a fresh interpreter."""
        init.tell(self.pipe, encode({"begun": True, "fresh": why}))

    def failed(self, error: OSError) -> NoReturn:
        """Say which step failed; ends the process."""
        init.tell(self.pipe, encode(explain(self.stage, error)))
        os._exit(init.FAILED)


def begin(ground: Ground, order: Record, log: int, status: int, release: int, *mounts: int) -> NoReturn:
    """Confine the calling process, just forked, and be the init of the run; ends the process. ``mounts``: copies of
    mounts for the paths of ``covers``, without which they are a mount namespace that the shim has made for it, and the
    root folder there."""
    steps = Steps()
    try:
        ground.control.close()
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signals.SIGKILL)
        ready = _confine(steps, order, mounts)

        def become(birth: init.Birth) -> NoReturn:
            program.become(birth, ground, order, log)

        def settle() -> None:
            scope.enclose(order.get("open_calls") or ())
            _refuse(order)

        init.serve(status, release, ready, become, explain, settle=settle)
    except OSError as error:
        init.tell(status, encode(explain(steps.stage, error)))
    except Exception as error:  # a mistake of ours ends the launch, and never runs the program unconfined
        init.tell(status, encode(explain(steps.stage, OSError(0, type(error).__name__))))
    os._exit(init.FAILED)


def be_born(ground: Ground, ordered: int, log: int, status: int, release: int, *mounts: int) -> NoReturn:
    """Confine the calling process, just forked by a cell, and become the program. ``ordered``: the run's order, which
    the cell itself does not read, so that no other program finds anything of it in memory. Raises
    :class:`program.Forked`, or ends the process."""
    birth = CellBirth(status, release)
    try:
        order = read_order(ordered)
        os.close(ordered)
        flags = isolation.flags_of(set(order["namespaces"]) - {"user", "pid"})
        if not order.get("network", True):
            flags |= isolation.CLONE_NEWNET
        birth.stage = "view"
        libc("unshare", flags)
        init.tell(status, encode({"ready": True, **_confine(birth, order, mounts)}))
        birth.stage = "filter"
        _refuse(order)
        signals.pthread_sigmask(signals.SIG_SETMASK, ())
        program.become(birth, ground, order, log)
    except OSError as error:
        birth.failed(error)
    except Exception as error:  # a mistake of ours is a failed stage, too: it must not look like the program's end
        birth.failed(OSError(0, type(error).__name__))


def read_order(descriptor: int) -> Record:
    """The order of a run, a file in memory. Raises ``OSError`` or ``ValueError``."""
    text = b""
    while chunk := os.pread(descriptor, 1 << 16, len(text)):
        text += chunk
    return decode(text)


def _confine(steps: Steps | CellBirth, order: Record, mounts: tuple[int, ...]) -> Record:
    """Leave the calling process, whose namespaces are its own, what the program may see and do. Returns the folders
    that are covered in ``view``, and sentences on what could not be had in ``missing``. Raises ``OSError``."""
    steps.stage = "view"
    namespaces: list[str] = order["namespaces"]
    covered: dict[str, list[str]] = {}
    missing: list[str] = []
    if order.get("covers") is not None:
        covers, beside = order["covers"]
        _put(covers, beside, mounts)
        steps.stage = "shm"
        missing = _own_places(namespaces, order)
    elif mounts:
        missing = _enter(mounts, namespaces)
    elif "mount" in namespaces:
        view.own_mounts(born=True)
        covered = _cover(order)
        steps.stage = "shm"
        missing = _own_places(namespaces, order)
    steps.stage = "network"
    if not order.get("network", True):
        isolation.start_loopback()
    steps.stage = "user"
    if "user" in namespaces:
        isolation.bound_processes(order.get("most_processes"))
        _give_up_rights()
    return {"missing": missing + seccomp.missing(), "view": list(covered)}


def _cover(order: Record) -> dict[str, list[str]]:
    """Cover what the program is not to see; says which folders those are. Raises ``OSError``."""
    tmp, fixed = order.get("tmp"), order.get("fixed") or ()
    hide = order.get("hide") or ()
    covered = view.plan(order.get("view") or (), None, (), hide, fixed, view.TMP if tmp else ())
    view.cover(covered, view.sources(fixed, tmp))
    return covered


def _own_places(namespaces: list[str], order: Record) -> list[str]:
    read_only, writable = order.get("read_only") or (), order.get("writable") or ()
    missing = isolation.seal(read_only, writable)
    missing += isolation.own_places(namespaces, order.get("shm_mib"))
    missing += isolation.close_devices(order.get("closed_devices") or ())
    return missing + isolation.close_folders(read_only, writable)


def _refuse(order: Record) -> None:
    if not seccomp.missing():
        seccomp.refuse("pid" in order["namespaces"], order.get("open_calls") or ())


def _put(covers: dict[str, list[str]], beside: list[str], copies: tuple[int, ...]) -> None:
    """Cover folders and put the copies of mounts in their places, those within the folders first. Raises
    ``OSError``."""
    within = [path for paths in covers.values() for path in paths]
    if len(copies) != len(within) + len(beside):
        raise OSError(0, "the shim has sent other mounts than it named")
    view.cover_with(covers, {path: copies[number] for number, path in enumerate(within)}, trees.put)
    for number, path in enumerate(beside, len(within)):
        trees.put(copies[number], os.fsencode(path))
        os.close(copies[number])


def _enter(mounts: tuple[int, ...], namespaces: list[str]) -> list[str]:
    """Enter the mounts that were made for this process, and mount the ``/proc`` that they lack; returns sentences on
    what could not be had. Raises ``OSError``."""
    namespace, root = mounts
    libc("setns", namespace, view.CLONE_NEWNS)
    os.fchdir(root)
    os.chroot(".")
    os.close(namespace)
    os.close(root)
    return isolation.own_places([name for name in namespaces if name == "pid"], None)


def explain(stage: str, error: OSError) -> dict[str, object]:
    """The report of a stage that failed."""
    what = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
    told = ": ".join(filter(None, [what, error.strerror or ""]))
    return {"stage": stage, "errno": error.errno or None, "message": f"{ADVICE.get(stage, '')} ({told})".strip()}


def _give_up_rights() -> None:
    """Have no capability any more; none can come back, since the bounding set is empty and no execve(2) gives any."""
    header = CAPABILITIES_3.to_bytes(4, sys.byteorder) + bytes(4)
    libc("capset", header, bytes(24))
