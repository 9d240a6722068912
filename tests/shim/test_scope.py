"""Abstract sockets and signals of others, where the network and the process ids are shared."""

import os
import signal
import socket
import subprocess
from collections.abc import Sequence

import pytest

from runyard.shim import scope
from tests.shim.launching import UID, Launcher, needs_root

possible = pytest.mark.skipif(not scope.is_possible(), reason="this kernel has no scopes of Landlock (6.12)")
REACHES = r"""
import os, signal, socket, sys
name, pid = sys.argv[1], int(sys.argv[2])
def connect(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
own = socket.socket(socket.AF_UNIX)
own.bind("\0" + name + "-own")
own.listen()
child = os.fork()
if child == 0:
    connect("\0" + name + "-own")
    signal.pause()
own.accept()
for what, attempt in (
    ("its own socket", lambda: connect("\0" + name + "-own")),
    ("its own child", lambda: os.kill(child, signal.SIGKILL)),
    ("another's socket", lambda: connect("\0" + name)),
    ("another's process", lambda: os.kill(pid, 0)),
):
    try:
        attempt()
    except OSError as error:
        print(what, type(error).__name__, flush=True)
    else:
        print(what, "reached", flush=True)
"""


@possible
@needs_root
@pytest.mark.parametrize("namespaces", [[], ["pid", "mount", "ipc"]])
@pytest.mark.parametrize("open_calls", [[], ["all"]])
def test_a_program_reaches_its_own_and_no_other(
    open_launcher: Launcher, namespaces: Sequence[str], open_calls: Sequence[str]
) -> None:
    name = f"runyard-scope-{os.getpid()}-{len(namespaces)}"
    bystander = subprocess.Popen(["sleep", "60"], user=UID, group=UID)
    try:
        with socket.socket(socket.AF_UNIX) as theirs:
            theirs.bind("\0" + name)
            theirs.listen()
            argv = ["/usr/bin/python3", "-c", REACHES, name, str(bystander.pid)]
            attempt = open_launcher.launch(argv, uid=UID, gid=UID, namespaces=namespaces, open_calls=open_calls)
            assert attempt.ended()["exit_code"] == 0, attempt.logged()
    finally:
        bystander.send_signal(signal.SIGKILL)
        bystander.wait()
    own = ["its own socket reached", "its own child reached"]
    socket_, process = ("PermissionError", "PermissionError") if not open_calls else ("reached", "reached")
    process = "ProcessLookupError" if namespaces else process
    assert attempt.logged().splitlines() == [*own, f"another's socket {socket_}", f"another's process {process}"]
