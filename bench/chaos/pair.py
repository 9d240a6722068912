"""Two servers on one PostgreSQL, each with a node, and a third node whose way to the server leads through a door."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg

from bench.chaos.place import SETTINGS, Installed, Place, Rows, begin, built_clock, object_store
from bench.chaos.proxy import Door
from bench.yard import Yard
from runyard.client import Client
from runyard.up.supervise import python
from tests.support.postgres import running_postgres
from tests.support.waiting import wait_until
from tools.free_port import free_port
from tools.runyard_cli import Runyard

SHARES = (3, 3, 2)
"""Slots of the three nodes."""


class Connected:
    """A connection to PostgreSQL, as the audit reads it. Raises ``psycopg.Error``."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url)

    def execute(self, query: str) -> Rows:
        """The rows that it finds."""
        return self._connection.execute(query.encode())

    def close(self) -> None:
        """Close it."""
        self._connection.close()


def installation(home: Path, words: dict[str, object]) -> Runyard:
    """The settings of one of the two, in its home."""
    home.mkdir(mode=0o755)
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in words.items())
    (home / "settings.toml").write_text(SETTINGS + text, encoding="utf-8")
    return Runyard(home)


@contextlib.contextmanager
def beside(folder: Path, door: Door, token: str) -> Iterator[subprocess.Popen[bytes]]:
    """The third node, a process of this one's own."""
    home = folder / "beside" / "node"
    home.mkdir(parents=True, mode=0o755)
    (folder / "beside").chmod(0o755)
    secret = folder / "beside" / "token"
    secret.touch(mode=0o600)
    secret.write_text(token)
    words = ["--home", str(home), "--server", f"http://127.0.0.1:{door.port}", "--name", "beside"]
    words += ["--token-file", str(secret), "--gpus", "none", "--fake-gpus", str(SHARES[2]), "--shared-tmp"]
    with (folder / "beside" / "log").open("ab") as log:
        node = subprocess.Popen([*python(), "-m", "runyard.node", *words], stdout=log, stderr=log)
    try:
        yield node
    finally:
        node.terminate()
        node.wait(30)


@contextlib.contextmanager
def opened(folder: Path, *, store: bool) -> Iterator[Place]:
    """All of it; everything is down and gone afterwards but the folder."""
    folder.chmod(0o755)
    witness, shared, clock = folder / "witness", folder / "shared", built_clock(folder)
    witness.mkdir()
    witness.chmod(0o777)
    ports = (free_port(), free_port())
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        s3 = stack.enter_context(object_store(folder)) if store else None
        made: list[Installed] = []
        for number, port in enumerate(ports):
            words = {"store_url": postgres.url, "shared_folder": str(shared), "other_urls": [urls[1 - number]]}
            home = folder / f"home{number}"
            runyard = installation(home, words)
            begin(runyard, SHARES[number], port, clock)
            stack.callback(runyard.ask, "down", "--cancel-runs")
            made.append(Installed(home, urls[number], Yard(runyard, SHARES[number]).supervisor()))
        yard = Yard(Runyard(made[0].home), sum(SHARES))
        yard.client = Client(",".join(urls), (made[0].home / "token").read_text().strip())
        door = Door(ports[0])
        node = stack.enter_context(beside(folder, door, yard.client.add_token("beside", scope="node").token))
        wait_until(lambda: sum(bool(each["connected"]) for each in yard.client.status().nodes) == 3, "all nodes", 60)
        yard.client.set_quota("default", {"gpus": sum(SHARES)})
        nodes = (*(each.home / "node" for each in made), folder / "beside" / "node")
        yield Place(
            yard, witness, (), clock, s3, tuple(made), shared, nodes, lambda: Connected(postgres.url),
            door, node, postgres,
        )  # fmt: skip
