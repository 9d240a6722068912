"""An installation on PostgreSQL: its server and its database die, and nothing is lost."""

import contextlib
import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from runyard.core.errors import RunyardError
from tests.support.installation import Installation, manifest, running_installation, write_code
from tests.support.postgres import running_postgres
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.story, pytest.mark.slow, pytest.mark.timeout(300)]
CODE = "import os, sys, time\nprint('began', os.environ['TRAINING_ID'], flush=True)\ntime.sleep(float(sys.argv[1]))\n"


def health(here: Installation) -> tuple[int, str]:
    """Status of ``/healthz``, and its code or status in words."""
    try:
        with urllib.request.urlopen(f"{here.url}/healthz", timeout=20) as answer:
            return answer.status, json.load(answer)["status"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["code"]


def submit(here: Installation, seconds: float, count: int = 1) -> list[str]:
    """Submit runs that take so long."""
    code = write_code(here.folder / "code", {"main.py": CODE})
    (here.folder / "m.yml").write_text(manifest(f"python3 main.py {seconds}"))
    values = ",".join(str(number) for number in range(count))
    more = ("--set", f"n={values}", "--force") if count > 1 else ()
    return [str(each) for each in here.json("train", str(code), "m.yml", *more)["ids"]]


def test_the_server_and_the_database_die_and_nothing_is_lost(tmp_path: Path) -> None:
    with (
        running_postgres() as database,
        running_installation(
            tmp_path, "--fake-gpus", "2", settings=f"store_url = {json.dumps(database.url)}\n"
        ) as here,
    ):
        canceled = submit(here, 60)[0]
        wait_until(lambda: here.client().run(canceled).state == "running", "a program", 60)
        here.cli("cancel", canceled)
        here.cli("wait", canceled, check=3)
        ids = submit(here, 2, 8)
        wait_until(lambda: here.get("/status")["counts"].get("running", 0) >= 1, "programs", 60)
        here.kill("server")
        here.wait_connected()
        database.stop()
        wait_until(lambda: health(here) == (503, "store_away"), "the word that the database is away", 60)
        with pytest.raises(RunyardError, match="database does not answer"):
            here.client().status()
        database.start()
        wait_until(lambda: health(here) == (200, "ok"), "the database", 60)
        here.wait_connected()
        more = submit(here, 0.1, 3)
        runs = here.client().wait(ids + more, timeout=200)
        assert {run.state for run in runs} == {"completed"}
        assert [len(run.attempts) for run in runs] == [1] * 11
        for run in runs:
            assert here.client().log(run.id) == f"began {run.id}\n".encode()
        ledger = database.rows("SELECT run_id, count(*) FROM ledger GROUP BY run_id")
        assert sorted(ledger) == sorted((run, 1) for run in [canceled, *ids, *more])
        log = (here.home / "log" / "server.log").read_text()
        assert "the database does not answer" in log
        assert "the database answers again" in log
        assert "Traceback" not in log


def test_an_installation_moves_from_sqlite_to_postgresql_and_back(tmp_path: Path) -> None:
    with running_postgres() as database:
        with running_installation(tmp_path / "one", "--fake-gpus", "1") as here:
            done = submit(here, 0)[0]
            here.cli("wait", done)
            here.cli("backup", str(tmp_path / "one.tar"))
        for number, url in enumerate((database.url, "sqlite"), 2):
            home = tmp_path / f"{number}"
            source = tmp_path / ("one.tar" if number == 2 else "2.tar")
            here.cli("restore", str(source), "--home", str(home), "--store-url", url)
            here.cli("backup", str(tmp_path / f"{number}.tar"), "--home", str(home))
        assert database.rows("SELECT id, state FROM runs") == [(done, "completed")]
        assert str(database.url) not in (tmp_path / "3" / "settings.toml").read_text()
        refused = here.cli(
            "restore", str(tmp_path / "one.tar"), "--home", str(tmp_path / "4"), "--store-url", database.url, check=4
        )
        assert "empty one" in refused.stderr
        with contextlib.suppress(FileNotFoundError):
            assert not list((tmp_path / "4").glob("server*"))
