"""A real installation in a folder of its own: `runyard up`, its processes by pid, its client."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runyard.client import Client
from runyard.up.record import start_ticks
from tests.support import as_user
from tests.support.waiting import wait_until

RUNYARD = Path(sys.executable).with_name("runyard")


@dataclass(frozen=True, slots=True)
class Installation:
    """A running installation. ``folder`` is where its users work: manifests and model definitions."""

    home: Path
    folder: Path
    url: str

    @property
    def token(self) -> str:
        """The owner's token."""
        return (self.home / "token").read_text().strip()

    def client(self) -> Client:
        """A client of the owner."""
        return Client(url=self.url, token=self.token)

    def cli(self, *arguments: str, check: int | None = 0, timeout: float = 100) -> subprocess.CompletedProcess[str]:
        """Run the command line in ``folder``; ``check``: the exit code that it must have, None for any."""
        done = subprocess.run(
            [str(RUNYARD), *arguments],
            cwd=self.folder,
            env={**os.environ, "RUNYARD_HOME": str(self.home)},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check is not None:
            assert done.returncode == check, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def get(self, path: str) -> dict[str, Any]:
        """What the REST API answers to a GET."""
        request = urllib.request.Request(f"{self.url}/api/v1{path}", headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def events(self) -> list[dict[str, Any]]:
        """All events of the account, in order."""
        found: list[dict[str, Any]] = []
        while page := self.get(f"/events?limit=1000&after={found[-1]['seq'] if found else 0}")["items"]:
            found += page
        return found

    def json(self, *arguments: str) -> dict[str, Any]:
        """What a command prints with ``--json``."""
        return json.loads(self.cli(*arguments, "--json").stdout)

    def child(self, room: str) -> int:
        """The pid of the server or of the node, the supervisor's child."""
        supervisor = json.loads((self.home / "up.json").read_text())["pid"]
        for pid in children_of(supervisor):
            if f"runyard.{room}" in cmdline(pid):
                return pid
        raise LookupError(f"the supervisor has no {room} now")

    def kill(self, room: str) -> None:
        """SIGKILL to the server or the node; returns once another one is in its place."""
        pid = self.child(room)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self._replaced(room, pid), f"another {room}")

    def _replaced(self, room: str, pid: int) -> bool:
        try:
            return self.child(room) != pid
        except LookupError:
            return False

    def wait_connected(self) -> None:
        """Wait until the server answers and a node has joined."""
        wait_until(lambda: any(node["connected"] for node in self.get("/status")["nodes"]), "a node", 60)


def children_of(pid: int) -> list[int]:
    """Pids of a process's children."""
    with contextlib.suppress(FileNotFoundError):
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def cmdline(pid: int) -> str:
    """The command line of a process, empty when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def alive(marker: str) -> list[int]:
    """Pids of processes whose command line or environment holds ``marker``; zombies do not count."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid() or start_ticks(int(entry.name)) is None:
            continue
        with contextlib.suppress(OSError):
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            if marker.encode() in text:
                found.append(int(entry.name))
    return found


def write_code(folder: Path, files: Mapping[str, str]) -> Path:
    """A model definition: a folder with these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def manifest(
    command: str, *, name: str = "story", data: str = "", configuration: str = "small", extra: str = ""
) -> str:
    """A manifest of dialect one on the embedded store."""
    reference = f"training_data_reference:\n  type: local\n  source: {{bucket: {data}}}\n" if data else ""
    return (
        f"model_definition:\n  name: {name}\n  execution:\n    command: {json.dumps(command)}\n"
        f"    compute_configuration: {{name: {configuration}}}\n"
        f"{reference}training_results_reference:\n  type: local\n  target: {{bucket: results}}\n{extra}"
    )


def up(home: Path, *options: str, user: int | None = None, allowed: bool = True) -> str:
    """`runyard up --detach` on a free port; its address. ``user``: whom it is to run as, the owner of the home;
    ``allowed``: whether it may make user namespaces."""
    refusing = [] if allowed else ["--no-namespaces"]
    started_by = [] if user is None else [sys.executable, as_user.__file__, *refusing, str(user), str(home.parent)]
    done = subprocess.run(
        [*started_by, str(RUNYARD), "up", "--detach", "--home", str(home), "--port", "0", *options],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextlib.contextmanager
def running_installation(
    root: Path, *options: str, settings: str = "", user: int | None = None, allowed: bool = True
) -> Iterator[Installation]:
    """`runyard up --detach` on a free port; taken down, with all its runs, at the end. ``user``, ``allowed``: as for
    :func:`up`."""
    home, folder = root / "home", root / "work"
    folder.mkdir(parents=True)
    home.mkdir()
    (home / "settings.toml").write_text(settings)
    if user is not None:
        for path in (root, home, home / "settings.toml"):
            os.chown(path, user, user)
    installation = Installation(home, folder, up(home, *options, user=user, allowed=allowed))
    try:
        yield installation
    finally:
        take_down(home)
        if user is not None:
            as_user.take_back(user)


def take_down(home: Path) -> None:
    """`runyard down`, with all runs; a supervisor that does not end by it is killed, and the test fails."""
    supervisor = json.loads((home / "up.json").read_text())["pid"]
    done = subprocess.run(
        [str(RUNYARD), "down", "--cancel-runs", "--home", str(home)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0 or cmdline(supervisor):
        for pid in (supervisor, *children_of(supervisor)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        raise AssertionError(f"`runyard down` gave {done.returncode}: {done.stderr}")
