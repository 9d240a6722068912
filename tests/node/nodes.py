"""A real node process beside a small real server, and the orders that tests give."""

import contextlib
import io
import os
import secrets
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from runyard.core import ids
from runyard.node.shims import marked
from runyard.testing.wire_server import WireServer
from runyard.wire import facts, orders

# Programs are told apart by their run's id, also from those of another session of these tests on the same machine.
RUN, OTHER = (ids.run_id(secrets.randbits(64)) for _ in range(2))
NODE = (sys.executable, "-m", "runyard.node", "--name", "n1")
RESULTS = orders.Place("local", "results", account="acme")


class NodeProcess:
    """``python -m runyard.node`` in a folder, started, killed and started again."""

    def __init__(self, home: Path, server: WireServer) -> None:
        self.home = home
        self.server = server
        self.options: list[str] = ["--fake-gpus", "2", "--sync-every", "600"]
        self.env: dict[str, str] = {}
        self.become: Callable[[], None] | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.log = home.with_name(home.name + ".log")

    def start(self) -> None:
        hellos = len(self.server.hellos)
        token = self.home.with_name("token")
        token.write_text(self.server.token + "\n")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *NODE,
                    "--home",
                    str(self.home),
                    "--server",
                    self.server.url,
                    "--token-file",
                    str(token),
                    *self.options,
                ],
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=self.become,
                cwd="/",
            )
        self.server.wait(lambda: len(self.server.hellos) > hellos, "the node's hello")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(10)

    def clean(self) -> None:
        """End the node and whatever runs it left."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for run in (RUN, OTHER):
            for pid in marked(run):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def attempt(self, run: str = RUN, number: int = 1) -> Path:
        return self.home / "runs" / run / "attempts" / str(number)

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


@contextlib.contextmanager
def running_node(
    folder: Path,
    *options: str,
    env: Mapping[str, str] | None = None,
    become: Callable[[], None] | None = None,
    flawless: bool = True,
) -> Iterator[NodeProcess]:
    """A server and a node connected to it. ``flawless``: the node's own mistakes fail the test. ``become``: done by the
    node's process before it is the node."""
    server = WireServer()
    server.start()
    node = NodeProcess(folder / "home", server)
    node.options += options
    node.env.update(env or {})
    node.become = become
    try:
        node.start()
        yield node
        assert not flawless or "mistake in the node" not in node.said(), node.said()
    finally:
        node.clean()
        server.stop()


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    """A zip of some files."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def stage_of(
    server: WireServer, files: Mapping[str, str | bytes] | None = None, spec: int = 7, **data: Any
) -> orders.Stage:
    """A stage order for some code and, in ``parts``, data."""
    code = server.put_definition(zipped(files)) if files is not None else None
    return orders.Stage(spec, code, **data)


def launch_of(stage: orders.Stage, command: str, run: str = RUN, attempt: int = 1, **more: Any) -> orders.Launch:
    slots = (1,) if run == OTHER else (0,)
    fields: dict[str, Any] = {"slots": slots, "memory_mib": 512, "grace_ms": 5000, "results": RESULTS} | more
    return orders.Launch(run=run, attempt=attempt, name="demo", command=command, stage=stage, **fields)


def store_of(spec: int = 7, run: str = RUN, attempt: int = 1, **more: Any) -> orders.Store:
    fields: dict[str, Any] = {"results": RESULTS} | more
    return orders.Store(run=run, spec=spec, attempt=attempt, **fields)


def of_run(run: str, attempt: int = 1) -> Callable[[facts.Began | facts.Exited | facts.Lost], bool]:
    return lambda fact: (fact.run, fact.attempt) == (run, attempt)


def run_to_end(
    node: NodeProcess,
    command: str,
    files: Mapping[str, str | bytes] | None = None,
    run: str = RUN,
    attempt: int = 1,
    **more: Any,
) -> facts.Exited:
    """Launch a command and wait for its end and all of its log."""
    server = node.server
    order = launch_of(stage_of(server, {} if files is None else files), command, run, attempt, **more)
    server.give(order)
    exited = server.wait_for(facts.Exited, of_run(order.run, order.attempt))
    key = (order.run, order.attempt, "training-log")
    server.wait(lambda: len(server.logs.get(key, b"")) >= exited.log_bytes, "the log")
    return exited
