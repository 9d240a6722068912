"""A warm parent under its shim, programs for it, and the node's end of the line to it."""

import fcntl
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from runyard.node.home import AttemptFolder
from runyard.node.shims import opened, run_script
from tests.shim.launching import ENV, INTERPRETER, PATIENCE_S, SHIM, UID, Client, order
from tests.shim.test_namespaces import FORGER
from tests.support.waiting import wait_until

ALL = ["user", "pid", "mount", "ipc"]
PARENT = SHIM.parent / "warm" / "parent.py"
READY = "import os, signal, sys, time\nprint('ready', flush=True)\n"
FOR_EVER = "while True: time.sleep(1)\n"
PROGRAMS = {
    "seven.py": "import os, sys\nprint(os.getpid(), os.getppid(), os.listdir('../..'), flush=True)\nsys.exit(7)\n",
    "spoils.py": "import resource, sys\nresource.prlimit(1, resource.RLIMIT_NOFILE, (64, 64))\nsys.exit(7)\n",
    "wait.py": READY + "while not os.path.exists('go'): time.sleep(0.01)\nsys.exit(5)\n",
    "deaf.py": "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + READY + "os.fork()\n" + FOR_EVER,
    "heeds.py": "import signal\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n" + READY + FOR_EVER,
    "leaves.py": "import os, time\nif os.fork() == 0:\n  os.setsid()\n  while True: time.sleep(1)\nos._exit(6)\n",
    "eats.py": "x = bytearray(300 << 20)\nprint(7 * 191)\n",
    "burns.py": "for _ in range(3_000_000): pass\n",
    "adjusts.py": "print(open('/proc/self/oom_score_adj').read().strip())\n",
    "forges.py": FORGER,
    "asks.py": "import sys, touchy\nprint(touchy.GIVEN, 'json.tool' in sys.modules)\n",
    "opens.py": """
import sys
for path in sys.argv[1:]:
    try:
        open(path).close()
        print('open')
    except OSError as error:
        print(type(error).__name__)
print(open('/proc/self/status').read().partition('Seccomp:')[2].split()[0])
""",
}
SPARE = "with open('/proc/self/oom_score_adj', 'w') as file: file.write('-1000')"


def spared() -> bool:
    """Whether root may keep a process from being killed for want of memory: it may have lost that right."""
    return subprocess.run([sys.executable, "-c", SPARE], capture_output=True, check=False).returncode == 0


class Run:
    """One launched program of a warm parent."""

    def __init__(self, place: Path, number: int) -> None:
        self.place = place
        self.number = number
        self.folder = AttemptFolder(f"training-a1B2c3D4{number}", 1, str(place / "a"))

    def client(self) -> Client:
        return Client(Path(self.folder.socket))

    def started(self) -> dict[str, Any]:
        wait_until(lambda: os.path.exists(self.folder.started), "its start", pause=0.005)
        return json.loads(Path(self.folder.started).read_text())

    def ended(self) -> dict[str, Any]:
        wait_until(lambda: os.path.exists(self.folder.exit), "its end", pause=0.005)
        wait_until(self.lock_is_free, "its lock", pause=0.005)
        return json.loads(Path(self.folder.exit).read_text())

    def lock_is_free(self) -> bool:

        with open(self.folder.lock) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def logged(self) -> str:
        log = self.place / "training-log.txt"
        return log.read_text() if log.exists() else ""

    def wait_for_line(self, line: str) -> None:
        wait_until(lambda: line in self.logged().splitlines(), f"the line {line!r}", pause=0.005)

    def go(self) -> None:
        (self.place / "work" / "go").touch()


class Warm:
    """A warm parent under its shim, and the node's end of the line to it."""

    def __init__(self, base: Path, **fields: Any) -> None:
        self.runs = base / "runs"
        self.runs.mkdir(mode=0o711)
        self.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.line.settimeout(PATIENCE_S)
        wanted = {
            "argv": [sys.executable, str(PARENT), "--fd", "3"],
            "env": ENV,
            "uid": UID,
            "gid": UID,
            "cgroup": None,
            "visible": [*INTERPRETER, str(SHIM.parent)],
            "hide": [str(self.runs)],
            "preload": ["json.tool"],
            "namespaces": ALL,
            **fields,
        }
        ordered = os.memfd_create("order")
        os.write(ordered, json.dumps(wanted).encode())
        os.lseek(ordered, 0, os.SEEK_SET)
        arguments = ["--warm", "--control-fd", str(theirs.fileno()), "--order-fd", str(ordered)]
        self.process = run_script(arguments, (theirs.fileno(), ordered), 2)
        os.close(ordered)
        theirs.close()
        self.number = 0

    def hear(self) -> dict[str, Any]:
        return json.loads(self.line.recv(1 << 16))

    def parent(self) -> int:
        """The process id of the warm parent: the one child of its shim that is no init."""
        for name in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            if os.readlink(f"/proc/{name}/ns/pid") == os.readlink("/proc/self/ns/pid"):
                return int(name)
        raise AssertionError("there is no warm parent")

    def children(self) -> list[int]:
        """Its cells, and the inits of programs that are in none."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(name) for name in text.split() if int(name) != self.parent()]

    def prepare(self, script: str, **fields: Any) -> tuple[Run, dict[str, Any]]:
        self.number += 1
        place = self.runs / str(self.number)
        (place / "work").mkdir(parents=True)
        (place / "a").mkdir(mode=0o700)
        (place / "work" / script).write_text(PROGRAMS[script])
        os.chown(place / "work", UID, UID)
        given = {
            "uid": UID,
            "gid": UID,
            "cwd": str(place / "work"),
            "visible": [*INTERPRETER, str(place / "work")],
            "hide": [str(self.runs)],
            "namespaces": ALL,
            "program": {"script": script, "module": None, "args": [], "argv0": script},
            "way_note": "It saves a second.",
            **fields,
        }
        return Run(place, self.number), order(place, ["/bin/false"], **given)

    def send(self, run: Run, ordered: dict[str, Any]) -> dict[str, Any]:
        with opened(run.folder, ordered) as descriptors:
            message = json.dumps({"op": "launch", "number": run.number, "name": run.folder.name}).encode()
            socket.send_fds(self.line, [message], descriptors)
        return self.hear()

    def launch(self, script: str, **fields: Any) -> Run:
        run, ordered = self.prepare(script, **fields)
        assert self.send(run, ordered) == {"number": run.number, "shim_pid": self.process.pid}
        return run

    def close(self) -> None:
        self.line.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
