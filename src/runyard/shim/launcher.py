"""A tiny process that is there before it is needed and forks a shim for each launch: no interpreter starts for one.

``shim.py --launcher --control-fd N``: launches come over a SOCK_SEQPACKET connection and are answered by number;
docs/rooms/shim.md has the messages. It ends with the connection, its shims do not.
"""

import gc
import os
import sys

from runyard.shim import cgroups, init, isolation, scope, seccomp, supervise  # noqa: F401 # pyright: ignore[reportUnusedImport] - imported once, before the forks
from runyard.shim.control import Control, descriptors_of
from runyard.shim.lean import PR_SET_DUMPABLE, prctl, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main(arguments: list[str]) -> "NoReturn":
    """Fork a shim for each launch until the node hangs up; ends the process."""
    named = dict(zip(arguments[::2], arguments[1::2], strict=True))
    control = Control(int(named["--control-fd"]))
    prctl(PR_SET_DUMPABLE, 0)
    signals.signal(signals.SIGCHLD, signals.SIG_IGN)  # the kernel collects what shims leave
    cgroups.remember()
    seccomp.ready()
    gc.collect()
    gc.freeze()  # or collecting would touch, and so copy, every page that shims share with this process
    while (received := control.receive()) is not None:
        message, descriptors = received
        number = message.get("number")
        try:
            control.tell({"number": number, "shim_pid": _fork(control, message, descriptors)})
        except (OSError, ValueError) as error:
            control.tell({"number": number, "error": f"No shim could be forked: {error}."})
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
    os._exit(0)


def _fork(control: Control, message: "dict[str, object]", descriptors: list[int]) -> int:
    """Make a shim of a fork; its process id. Raises ``OSError`` or ``ValueError``."""
    if message.get("op") != "launch":
        raise ValueError("only launches are understood here")
    launch = descriptors_of(descriptors)
    pid = os.fork()
    if pid:
        return pid
    try:
        control.close()
        os.setsid()
        os.dup2(launch.errors, 2)
        os.close(launch.errors)
        supervise.attend(launch.folder, launch.listening, launch.order)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # pyright: ignore[reportArgumentType] - there is one
    os._exit(1)
