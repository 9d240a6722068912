"""Two servers on one database, a machine each: either dies, again and again, and nothing is lost, doubled or billed
twice."""

import contextlib
import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard.client import Client
from tests.support.installation import Installation, manifest, take_down, up, write_code
from tests.support.ports import free_ports
from tests.support.postgres import Postgres, running_postgres
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.story, pytest.mark.slow, pytest.mark.timeout(400)]
CODE = "import os, time\nprint('began', os.environ['TRAINING_ID'], flush=True)\ntime.sleep(0.7)\nprint('ended')\n"
ROUNDS = 3


@contextlib.contextmanager
def two_servers(root: Path, database: Postgres, lease_s: float = 2.0) -> Iterator[tuple[Installation, Installation]]:
    """Two installations that share a database and a folder, each with a node of two slots."""
    ports = free_ports(2)
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    made: list[Installation] = []
    try:
        for number, port in enumerate(ports):
            home, folder = root / f"home{number}", root / f"work{number}"
            home.mkdir()
            folder.mkdir()
            told = {
                "store_url": database.url,
                "shared_folder": str(root / "shared"),
                "other_urls": [urls[1 - number]],
                "lease_s": lease_s,
            }
            text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in told.items())
            (home / "settings.toml").write_text(text)
            url = up(home, "--fake-gpus", "2", "--port", str(port))
            made.append(Installation(home, folder, url))
        yield made[0], made[1]
    finally:
        for each in made:
            take_down(each.home)


def leader(database: Postgres) -> str:
    """The address of the server that leads."""
    return str(database.rows("SELECT url FROM leases WHERE name = 'leader'")[0][0])


def answers(here: Installation) -> bool:
    """Whether an installation's address answers, by whichever server."""
    try:
        with urllib.request.urlopen(f"{here.url}/healthz", timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False


def kill_and_wait(victim: Installation, other: Installation, database: Postgres, number: int = signal.SIGKILL) -> float:
    """A signal that ends the server that leads, and nobody there to start it again for a while; seconds until the other
    one answers in its place."""
    supervisor = json.loads((victim.home / "up.json").read_text())["pid"]
    pid = victim.child("server")
    os.kill(supervisor, signal.SIGSTOP)
    try:
        os.kill(pid, number)
        began = time.monotonic()
        wait_until(lambda: leader(database) == other.url and answers(other), "the other server", 60)
        return time.monotonic() - began
    finally:
        os.kill(supervisor, signal.SIGCONT)


def test_either_of_two_servers_may_die(tmp_path: Path) -> None:
    with running_postgres() as database, two_servers(tmp_path, database) as (one, two):
        by_url = {one.url: (one, two), two.url: (two, one)}
        client = Client(url=f"{one.url},{two.url}", token=one.token)
        wait_until(lambda: sum(node["connected"] for node in one.get("/status")["nodes"]) == 2, "both machines", 60)
        assert two.get("/status")["account"] == "default", "each server's tokens are good on both"
        ids: list[str] = []
        took: list[float] = []
        for number in range(ROUNDS):
            for here in (one, two):
                ids += submit(here, 6)
            done = number * 12 + 3
            wait_until(lambda done=done: client.status().counts.get("completed", 0) >= done, "some ends", 90)
            victim, other = by_url[leader(database)]
            took.append(kill_and_wait(victim, other, database))
            wait_until(lambda v=victim: answers(v), "the one that died, passing on", 60)
        runs = client.wait(ids, timeout=200)
        assert {run.state for run in runs} == {"completed"}
        assert [len(run.attempts) for run in runs] == [1] * len(ids)
        assert len(database.rows("SELECT id FROM nodes")) == 2
        for run in runs:
            assert client.log(run.id) == f"began {run.id}\nended\n".encode()
        assert sorted(database.rows("SELECT run_id, count(*) FROM ledger GROUP BY run_id")) == sorted(
            (run, 1) for run in ids
        )
        finished = database.rows("SELECT run_id, count(*) FROM events WHERE kind = 'finished' GROUP BY run_id")
        assert sorted(finished) == sorted((run, 1) for run in ids)
        (tmp_path / "took.json").write_text(json.dumps(took))
        assert min(took) < 15


def submit(here: Installation, count: int) -> list[str]:
    """Submit runs through one of the servers."""
    code = write_code(here.folder / "code", {"main.py": CODE})
    (here.folder / "m.yml").write_text(manifest("python3 main.py"))
    values = ",".join(str(number) for number in range(count))
    return [str(each) for each in here.json("train", str(code), "m.yml", "--set", f"n={values}", "--force")["ids"]]


def test_who_dies_or_ends_is_followed_though_its_lease_has_long_to_run(tmp_path: Path) -> None:
    with running_postgres() as database, two_servers(tmp_path, database, lease_s=600.0) as (one, two):
        by_url = {one.url: (one, two), two.url: (two, one)}
        for number in (signal.SIGTERM, signal.SIGKILL):
            victim, other = by_url[leader(database)]
            kill_and_wait(victim, other, database, number)
            wait_until(lambda v=victim: answers(v), "the one that ended, passing on", 60)
            assert leader(database) == other.url


def test_a_server_that_hangs_is_replaced_and_writes_nothing_when_it_wakes(tmp_path: Path) -> None:
    with running_postgres() as database, two_servers(tmp_path, database) as (one, two):
        by_url = {one.url: (one, two), two.url: (two, one)}
        victim, other = by_url[leader(database)]
        pid = victim.child("server")
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: leader(database) == other.url and answers(other), "the other server", 60)
            ids = submit(other, 2)
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the server that was replaced", 60)
        wait_until(lambda: answers(victim), "another one in its place", 60)
        assert leader(database) == other.url
        runs = Client(url=victim.url, token=one.token).wait(ids, timeout=100)
        assert {run.state for run in runs} == {"completed"}
        assert "another server leads now" in (victim.home / "log" / "server.log").read_text()
