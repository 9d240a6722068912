"""Hangs, ignores SIGTERM, and leaves two children that do the same.

One child is an ordinary one. The other is a grandchild in a session of its own whose parent has ended, as a
daemon's would: neither the process group nor the parent's list of children leads to it. Both carry
TRAINING_ID in their command line, so that one can look for what is left. They end by themselves after an hour.
"""

import os
import signal
import subprocess
import sys
import time

AN_HOUR = 3600


def hang(role: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # One write a line: three processes share this output, and print writes its line's end apart when unbuffered.
    os.write(1, f"{role} hangs, process {os.getpid()}\n".encode())
    time.sleep(AN_HOUR)


def start(role: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, role, os.environ.get("TRAINING_ID", "no-training")])


def leave_a_daemon() -> None:
    """The double fork: a child that starts a session, starts the daemon in it, and ends."""
    child = os.fork()
    if child == 0:
        os.setsid()
        start("daemon")
        os._exit(0)
    os.waitpid(child, 0)


if len(sys.argv) > 1:
    hang(sys.argv[1])
else:
    start("child")
    leave_a_daemon()
    hang("program")
