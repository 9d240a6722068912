"""A real server process of its own, what it is sent, and what its store holds before and after."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import secrets
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from runyard.wire import facts, orders
from tests.api.serving import MANIFEST, Api, Machine
from tests.support.calling import TIMEOUT_S, Answer, Called, read_whole
from tests.support.waiting import wait_until

_VOLATILE = frozenset({"nodes", "alembic_version", "leases", "audit"})
"""Tables that change by themselves: when a machine was heard of last; and the trail, which holds refusals, too."""


@dataclass(slots=True)
class Yard(Called):
    """A running server: ``tokens`` of its owner and of its node; ``pid`` of the real process."""

    home: Path
    port: int
    pid: int
    tokens: dict[str, str] = field(repr=False)
    run: str = ""
    spec: int = 0

    def raw(self, sent: bytes, *, end: bool = False) -> Answer:
        """Bytes as they are; ``end``: nothing comes after them. Status 0 when the server only hangs up."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S) as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(sent)
                if end:
                    connection.shutdown(socket.SHUT_WR)
            response = http.client.HTTPResponse(connection)
            try:
                response.begin()
                return read_whole(response)
            except (http.client.HTTPException, ConnectionResetError):
                return Answer(0, {}, b"")

    def state(self) -> dict[str, str]:
        """What is kept: each table of the database and each file, as a digest."""
        found: dict[str, str] = {}
        server = self.home / "server"
        with contextlib.closing(sqlite3.connect(f"file:{server / 'runyard.db'}?mode=ro", uri=True)) as database:
            names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for name in sorted(set(names) - _VOLATILE):
                rows = sorted(repr(row) for row in database.execute(f'SELECT * FROM "{name}"'))
                found[name] = hashlib.sha256("\n".join(rows).encode()).hexdigest() if rows else ""
        for folder in ("definitions", "store", "logs"):
            for path in sorted((server / folder).rglob("*")):
                if path.is_file():
                    found[str(path.relative_to(server))] = f"{path.stat().st_size}"
        return found

    def settle(self) -> None:
        """Wait until what a granted request has set in motion is done: the state stays the same for a moment."""
        seen: list[dict[str, str]] = []

        def same() -> bool:
            seen.append(self.state())
            return len(seen) > 5 and all(each == seen[-1] for each in seen[-5:])

        wait_until(same, "the state of the store", pause=0.05)

    def peak_mib(self) -> float:
        """The most memory that the process has had resident in its life (``VmHWM`` of proc(5))."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise LookupError("the server is gone")

    def join(self) -> Machine:
        """A machine joins, and begins a run: what the node's lies are about. Nothing else starts afterwards."""
        machine = Machine(cast(Api, self), gpus=4)
        machine.hello()
        machine.listen()
        submitted = self.call("POST", "/training-runs", {"manifest": MANIFEST})
        self.run = submitted.json()["ids"][0]
        self.spec = machine.order(orders.Stage).spec
        machine.tell(facts.Staged(self.spec))
        machine.order(orders.Launch, run=self.run)
        assert machine.tell(facts.Began(self.run, 1, 1)) == [True]
        assert (
            self.call("PUT", f"/node/logs/{self.run}/1/1/training-log?offset=0", b"hello", token="node").status == 200
        )
        assert self.call("POST", "/queue/pause", {"all": True}).status == 200
        return machine


def _token() -> str:
    return "ryd_" + secrets.token_urlsafe(32)


@contextlib.contextmanager
def running_yard(home: Path, settings: str = "upload_limit_mib = 64\n") -> Iterator[Yard]:
    """``python -m runyard.server`` on a free port of loopback; killed by its pid at the end."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "settings.toml").write_text(settings)
    tokens = {"owner": _token(), "node": _token()}
    options = [f"--{who}-{what}={_shown(tokens[who], what)}" for who in tokens for what in ("digest", "hint")]
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening, (home / "server.log").open("wb") as log:
        port = int(listening.getsockname()[1])
        descriptor = listening.fileno()
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "runyard.server",
                "--home",
                str(home),
                "--fd",
                str(descriptor),
                "--request-patience=0.5",
                *options,
            ],
            pass_fds=[descriptor],
            stdout=log,
            stderr=log,
            env={**os.environ, "RUNYARD_HOME": str(home)},
        )
    yard = Yard(home, port, process.pid, tokens)
    try:
        wait_until(lambda: _answers(yard) or process.poll() is not None, "the server", 60)
        machine = yard.join()
        yard.settle()
        yield yard
        machine.hang_up()
        assert process.poll() is None, f"the server ended: {(home / 'server.log').read_text()[-2000:]}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _shown(token: str, what: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest() if what == "digest" else token[:8]


def _answers(yard: Yard) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return yard.call("GET", "//healthz", token=None).status == 200
    return False
