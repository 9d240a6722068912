"""Real warm parents for tests, and the same programs by fresh interpreters.

The test process stands in for the shim above a warm parent: it starts it under another user, maps its namespace, hands
over runs, and reaps them.
"""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runyard.shim import view
from tests.support.waiting import wait_until

SHIM = Path(view.__file__).parent
PARENT = SHIM / "warm" / "parent.py"
UID = 50021
PATIENCE_S = 100.0
NAMESPACES = ("user", "pid", "mount", "ipc")
ENV = {
    "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "USER": "somebody",
    "PYTHONUNBUFFERED": "1",
}


@dataclass
class Ran:
    """What became of a program. ``code`` as of subprocess; ``reports``: what its init said."""

    text: str
    code: int
    reports: list[dict[str, Any]] = field(default_factory=list)

    @property
    def fresh(self) -> str | None:
        """Why a fresh interpreter was executed for it."""
        return next((report["fresh"] for report in self.reports if "fresh" in report), None)


def interpreter_paths(executable: str) -> list[str]:
    said = subprocess.check_output(
        [executable, "-c", "import sys; print(sys.prefix, sys.base_prefix, sys.executable, sep='\\n')"], text=True
    )
    return [str(path) for name in said.split() for path in (Path(name), Path(name).resolve())]


class Warm:
    """A warm parent that is ready, or has failed (``failure``)."""

    def __init__(
        self,
        *modules: str,
        executable: str = sys.executable,
        namespaces: Sequence[str] = NAMESPACES,
        env: Mapping[str, str] | None = None,
        visible: Sequence[str] = (),
    ) -> None:
        self.executable = executable
        self.namespaces = list(namespaces)
        self.env = {**ENV, **(env or {})}
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE_S)
        self.number = 0
        self.failure = ""
        self.free: list[Cell] = []
        """Cells in which another program may run."""
        seen = [*interpreter_paths(executable), str(SHIM), *visible]

        def confine() -> None:
            if os.geteuid() == 0:
                view.make(view.plan(seen, UID, (UID,)))
                os.setgroups([])
                os.setgid(UID)
                os.setuid(UID)

        self.process = subprocess.Popen(
            [executable, str(PARENT), "--fd", str(theirs.fileno())],
            env=self.env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            preexec_fn=confine,
        )
        theirs.close()
        self.say({"op": "preload", "modules": list(modules), "namespaces": self.namespaces})
        self.loaded = self.hear()
        if self.loaded["event"] == "spoilt":
            modules = tuple(name for name in modules if name not in self.loaded["failed"])
            self.say({"op": "preload", "modules": list(modules), "namespaces": self.namespaces})
            self.loaded = self.hear()
        answer = self.loaded if self.loaded["event"] == "failed" else self.hear()
        if answer["event"] == "unshared":
            self._map_user()
            self.say({"op": "mapped"})
            answer = self.hear()
        if answer["event"] == "failed":
            self.failure = answer["message"]

    def _map_user(self) -> None:
        uid, gid = (UID, UID) if os.geteuid() == 0 else (os.getuid(), os.getgid())
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            Path(f"/proc/{self.process.pid}/{name}").write_text(text)

    def say(self, message: Mapping[str, object], descriptors: Sequence[int] = ()) -> None:
        socket.send_fds(self.socket, [json.dumps(message).encode()], list(descriptors))

    def hear(self) -> dict[str, Any]:
        return json.loads(self.socket.recv(1 << 16))

    def start(self, folder: Path, program: Mapping[str, Any], env: Mapping[str, str], **order: Any) -> "Run":
        """Fork a program; it waits for leave."""
        self.number += 1
        text = json.dumps(
            {
                "program": {"script": None, "module": None, "args": [], "argv0": "", **program},
                "env": dict(env),
                "cwd": str(folder),
                "view": [str(folder)],
                "hide": [],
                "namespaces": self.namespaces,
                "network": True,
                "shm_mib": None,
                "nice": 0,
                **order,
            }
        )
        memory = os.memfd_create("order")
        os.write(memory, text.encode())
        os.lseek(memory, 0, os.SEEK_SET)
        path = folder / f"log-{self.number}.txt"
        log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        heard, status = os.pipe()
        release, leave = os.pipe()
        given = [memory, log, status, release]
        cell = self.free.pop() if self.free else self._new_cell() if "pid" in self.namespaces else None
        if cell is None:
            self.say({"op": "run", "number": self.number}, given)
            pid = self._forked()
        else:
            socket.send_fds(cell.socket, [json.dumps({"number": self.number}).encode()], given)
            pid = cell.pid
        for descriptor in given:
            os.close(descriptor)
        return Run(self, pid, heard, leave, path, cell)

    def _new_cell(self) -> "Cell":
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(PATIENCE_S)
        self.say({"op": "cell", "number": 0}, [theirs.fileno()])
        theirs.close()
        return Cell(self._forked(), ours)

    def _forked(self) -> int:
        answer = self.hear()
        assert answer["event"] == "forked", answer
        return answer["pid"]

    def close(self) -> None:
        for cell in self.free:
            cell.end()
        self.socket.close()
        self.process.wait(PATIENCE_S)


@dataclass
class Cell:
    """One that the parent has forked; one program after another runs in it."""

    pid: int
    socket: socket.socket

    def over(self) -> dict[str, Any] | None:
        """What it says once nothing is left of the program; None: it was killed."""
        while said := self.socket.recv(1 << 16):
            if (report := json.loads(said))["event"] == "over":
                return report
        return None

    def end(self) -> None:
        self.socket.close()
        os.waitpid(self.pid, 0)


class Run:
    """One forked run: the process id of its cell, or of its init, and what is heard of it."""

    def __init__(self, warm: Warm, pid: int, heard: int, leave: int, log: Path, cell: Cell | None) -> None:
        self.warm = warm
        self.cell = cell
        self.pid = pid
        self.leave = leave
        self.log = log
        self.heard = heard
        self.begun = b""
        self.over: dict[str, Any] | None = None
        """What its cell said once nothing of it was left."""
        self.reports: list[dict[str, Any]] = []

    def go(self) -> None:
        os.write(self.leave, b"1")
        os.close(self.leave)

    def wait_for(self, key: str) -> dict[str, Any]:
        """The report that has this key."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for report in self.reports:
                if key in report:
                    return report
            if not self._read(deadline):
                raise AssertionError(f"no {key!r} in {self.reports}: {self.log.read_text()}")

    def wait_for_text(self, text: str) -> None:
        """Until the program has written this."""
        wait_until(lambda: text in self.log.read_text(), f"{text!r} in the log", PATIENCE_S)

    def _read(self, deadline: float) -> bool:
        if not select.select([self.heard], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        chunk = os.read(self.heard, 1 << 16)
        *lines, self.begun = (self.begun + chunk).split(b"\n")
        self.reports += [json.loads(line) for line in lines]
        return bool(chunk)

    def end(self) -> Ran:
        """Wait until nothing of it is left."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read(deadline):
            pass
        if time.monotonic() > deadline:
            os.kill(self.pid, signal.SIGKILL)
        os.close(self.heard)
        self.over = None if self.cell is None else self.cell.over()
        if self.over is None:
            _, self.status = os.waitpid(self.pid, 0)
        elif self.cell is not None and not self.over["changed"]:
            self.warm.free.append(self.cell)
        ended = [report["ended"] for report in self.reports if "ended" in report]
        code = os.waitstatus_to_exitcode(ended[0]) if ended else -999
        return Ran(self.log.read_text(errors="replace"), code, self.reports)


class Twice:
    """Runs the same program warm and by a fresh interpreter, in two folders of one user."""

    def __init__(self, warm: Warm, folder: Path) -> None:
        self.warm = warm
        self.folder = folder
        folder.chmod(0o755)

    def place(self, name: str, files: Mapping[str, str]) -> Path:
        place = self.folder / name
        place.mkdir(exist_ok=True)
        for file, text in files.items():
            (place / file).parent.mkdir(exist_ok=True)
            if not (place / file).exists() or (place / file).read_text() != text:  # a fork may be reading it
                (place / file).write_text(text)
        if os.geteuid() == 0:
            for path in [place, *place.rglob("*")]:
                os.chown(path, UID, UID)
        return place

    def env(self, place: Path, more: Mapping[str, str]) -> dict[str, str]:
        return {
            **self.warm.env,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(place),
            "HOME": str(place),
            "PWD": str(place),
            "_": str(Path(self.warm.executable).with_name("python")),
            **more,
        }

    def forked(self, files: Mapping[str, str], *args: str, module: str | None = None, **more: str) -> Ran:
        run = self.start(files, *args, module=module, **more)
        run.go()
        return run.end()

    def start(self, files: Mapping[str, str], *args: str, module: str | None = None, **more: str) -> Run:
        place = self.place("warm", files)
        script = None if module else next(iter(files))
        program = {"script": script, "module": module, "args": list(args)}
        return self.warm.start(place, program, self.env(place, more))

    def fresh(self, files: Mapping[str, str], *args: str, module: str | None = None, **more: str) -> Ran:
        place = self.place("fresh", files)
        log = place / "log.txt"
        seen = interpreter_paths(self.warm.executable)

        def confine() -> None:
            if os.geteuid() == 0:
                view.make(view.plan([*seen, str(place)], UID, (UID,)))
                os.setgroups([])
                os.setgid(UID)
                os.setuid(UID)

        words = ["-m", module] if module else [next(iter(files))]
        with log.open("wb") as output:
            env = self.env(place, more)
            code = subprocess.run(
                ["python", *words, *args],
                executable=env["_"],
                env=env,
                cwd=place,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=confine,
                start_new_session=True,
                timeout=PATIENCE_S,
                check=False,
            ).returncode
        return Ran(log.read_text(errors="replace"), code)

    def both(self, text: str, *args: str, **more: str) -> tuple[Ran, Ran]:
        """The script warm, and fresh, with what must differ made the same."""
        ran = self.forked({"t.py": text}, *args, **more), self.fresh({"t.py": text}, *args, **more)
        for each, name in zip(ran, ("warm", "fresh"), strict=True):
            each.text = re.sub(r"0x[0-9a-f]{6,}", "0x..", each.text.replace(str(self.folder / name), "PLACE"))
        return ran
