"""A program under a user of its own can neither write, read nor take away what is recorded of it."""

import json
import os
from pathlib import Path

from tests.shim.launching import ENV, UID, Launcher, needs_root

FORGER = r"""
import ctypes, os, signal, socket, sys
folder, log, shim = os.environ["FOLDER"], os.environ["LOG"], int(os.environ["SHIM"] or os.getppid())
below = os.path.join(folder, "exit.json")

def connect():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.path.join(folder, "control.sock"))

def trace():
    if ctypes.CDLL(None, use_errno=True).ptrace(16, shim, 0, 0) == -1:
        raise OSError(ctypes.get_errno(), "ptrace")

attempts = {
    "write": lambda: open(below, "w"),
    "write the reserved one": lambda: open(below + ".tmp", "r+"),
    "read": lambda: open(os.path.join(folder, "started.json")),
    "list": lambda: os.listdir(folder),
    "rename": lambda: os.rename("/tmp", below),
    "unlink": lambda: os.unlink(os.path.join(folder, "started.json")),
    "move the folder": lambda: os.rename(folder, folder + "-gone"),
    "make another": lambda: os.mkdir(folder + "-new"),
    "remove the log": lambda: os.unlink(log),
    "open the log": lambda: open(log, "w"),
    "open the log by its descriptor": lambda: open("/proc/self/fd/1", "w"),
    "command": connect,
    "kill": lambda: os.kill(shim, signal.SIGKILL),
    "stop": lambda: os.kill(shim, signal.SIGSTOP),
    "memory": lambda: open(f"/proc/{shim}/mem", "rb"),
    "environment": lambda: open(f"/proc/{shim}/environ", "rb"),
    "descriptors": lambda: os.listdir(f"/proc/{shim}/fd"),
    "trace": trace,
    "become root": lambda: os.setuid(0),
    "leave the group": lambda: [open(line.rstrip(), "w") for line in os.environ["GROUPS"].split(":")],
}
for name, attempt in attempts.items():
    try:
        attempt()
    except OSError as error:
        print("refused", name, type(error).__name__)
    else:
        print("DONE", name)
sys.exit(3)
"""


@needs_root
def test_nothing_that_a_program_tries_changes_its_record(open_launcher: Launcher) -> None:
    folder = open_launcher.folder / "1" / "a"
    script = open_launcher.folder / "forge.py"
    script.write_text(FORGER)
    script.chmod(0o644)
    attempt = open_launcher.launch(
        ["/usr/bin/python3", str(script)],
        uid=UID,
        gid=UID,
        env={
            **ENV,
            "FOLDER": str(folder),
            "LOG": str(folder.parent / "training-log.txt"),
            "SHIM": "",
            "GROUPS": "/sys/fs/cgroup/pids/cgroup.procs:/sys/fs/cgroup/cgroup.procs",
        },
    )
    ended = attempt.ended()
    tried = attempt.logged().splitlines()
    assert len(tried) == 20
    assert [line for line in tried if not line.startswith("refused")] == []
    assert (ended["exit_code"], ended["signal"], ended["tamper_proof"]) == (3, None, True)
    assert attempt.started()["tamper_proof"] is True
    assert json.loads((folder / "exit.json").read_text()) == ended
    for path in (folder / "exit.json", folder / "started.json", Path(attempt.log)):
        facts = os.stat(path)
        assert (facts.st_uid, facts.st_mode & 0o777) == (0, 0o600)
