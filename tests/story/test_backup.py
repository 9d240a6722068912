"""Backup of a live installation, restore into an empty place, and what the machines did meanwhile."""

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.support.installation import Installation, manifest, running_installation, up, write_code
from tests.support.waiting import wait_until

pytestmark = pytest.mark.story

ENDS = ("completed", "failed", "canceled")
CODE = """
import os, pathlib, sys, time
print("began", os.environ["TRAINING_ID"], flush=True)
while sys.argv[1:] == ["waits"] and not pathlib.Path(os.environ["CHECKPOINT_DIR"], "go").exists():
    time.sleep(0.05)
print("ended", flush=True)
"""


def submit(here: Installation, name: str, how: str = "") -> str:
    """Submit a run that ends at once, or `waits` until it may go on; its id."""
    code = write_code(here.folder / "code", {"main.py": CODE})
    (here.folder / f"{name}.yml").write_text(manifest(f"python3 main.py {how}", name=name))
    return here.cli("train", str(code), f"{name}.yml").stdout.strip()


def let_go(here: Installation, run: str) -> bool:
    """Let a program go on to its end; whether it has a folder, so that it hears of it."""
    folder = here.home / "node" / "runs" / run / "checkpoints"
    with contextlib.suppress(FileNotFoundError):
        (folder / "go").touch()
    return folder.exists()


def state(here: Installation, run: str) -> str:
    """Where a run is."""
    return here.client().run(run).state


def begun(here: Installation, run: str) -> int:
    """How often a run's program began, by all that its logs say."""
    attempts = (here.home / "server" / "logs" / run).glob("*/1/training-log")
    return sum(path.read_text().count("began " + run) for path in attempts)


def test_a_backup_of_a_live_installation_brings_all_of_it_back(tmp_path: Path) -> None:
    with running_installation(tmp_path, "--fake-gpus", "2", settings="price_gpu_hour = 3.5\n") as here:
        data = here.folder / "data"
        data.mkdir()
        (data / "points.csv").write_text("1,2\n")
        here.cli("data", "push", str(data), "points")
        done = submit(here, "done")
        here.cli("wait", done)
        long, second = submit(here, "long", "waits"), submit(here, "second", "waits")
        wait_until(lambda: (state(here, long), state(here, second)) == ("running", "running"), "two programs", 60)
        waiting = submit(here, "waiting")
        made = json.loads(here.cli("backup", "all.tar", "--json").stdout)
        assert (made["runs"], made["secrets"], made["schema"] > "0002") == (4, "plain", True)
        assert Path(made["file"]).stat().st_mode & 0o777 == 0o600
        here.cli("backup", "--verify", "all.tar")
        later = submit(here, "later")
        here.cli("cancel", second)
        wait_until(lambda: state(here, waiting) in ("running", "storing", "completed"), "the waiting run's turn", 60)
        here.cli("wait", later, waiting)
        here.cli("down")
        _lose_all_but_the_node(here.home)

        told = json.loads(here.cli("restore", "all.tar", "--home", str(here.home), "--json").stdout)
        assert (told["runs"], told["nodes"]) == (4, ["local"])
        again = Installation(here.home, here.folder, up(here.home, "--fake-gpus", "2"))
        assert "price_gpu_hour = 3.5" in (again.home / "settings.toml").read_text()
        assert again.get("/data/points")["items"][0]["key"] == "points.csv"
        assert again.cli("show", later, check=None).returncode != 0, "it was submitted after the backup"
        assert "ended" in again.cli("logs", done).stdout
        assert let_go(again, long)
        # The second was canceled after the backup, which does not know: it may run once more.
        wait_until(lambda: (let_go(again, second), state(again, second) in ENDS)[1], "the second run's end", 100)
        again.cli("wait", long, waiting, check=None)
        assert (state(again, done), state(again, long)) == ("completed", "completed")
        assert begun(again, long) == 1, "it went on all the time, and nobody began it again"
        bill = again.json("usage", "--by", "account")["items"]
        assert bill
        new = submit(again, "new")
        again.cli("wait", new)
        assert begun(again, new) == 1


def _lose_all_but_the_node(home: Path) -> None:
    shutil.rmtree(home / "server")
    for name in ("settings.toml", "token", "url"):
        (home / name).unlink()


def test_what_began_after_the_backup_is_taken_over_by_the_restored_server(tmp_path: Path) -> None:
    with running_installation(tmp_path, "--fake-gpus", "1") as here:
        first, second = submit(here, "first", "waits"), submit(here, "second", "waits")
        wait_until(lambda: state(here, first) == "running", "a program", 60)
        here.cli("backup", "all.tar")
        assert let_go(here, first)
        wait_until(lambda: state(here, second) == "running", "the second program", 60)
        here.cli("down")
        _lose_all_but_the_node(here.home)
        here.cli("restore", "all.tar", "--home", str(here.home))
        again = Installation(here.home, here.folder, up(here.home, "--fake-gpus", "1"))
        assert let_go(again, second)
        again.cli("wait", second)
        assert begun(again, second) == 1, "it was running, and was taken over"
        with sqlite3.connect(again.home / "server" / "runyard.db") as database:
            rows = database.execute("SELECT run_id, attempt FROM ledger WHERE run_id = ?", (second,)).fetchall()
        assert rows == [(second, 1)], "billed once"
        # The first one ended and was stored after the backup, which does not know: it runs once more.
        wait_until(lambda: (let_go(again, first), state(again, first) in ENDS)[1], "the first run's end", 100)
        assert state(again, first) == "completed"


def test_a_damaged_backup_is_told_and_restores_nothing(shared: Installation, tmp_path: Path) -> None:
    file = tmp_path / "all.tar"
    shared.cli("backup", str(file))
    whole = file.read_bytes()
    for at in (whole.index(b"\x1f\x8b") + 12, whole.rindex(b'":[') + 12):  # in a table, and in the index
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        found = shared.cli("backup", "--verify", str(file), check=1)
        assert "damaged" in found.stderr or "no whole backup" in found.stderr or "not finished" in found.stderr
    file.write_bytes(whole[: len(whole) // 2])
    shared.cli("backup", "--verify", str(file), check=1)
    home = tmp_path / "home"
    shared.cli("restore", str(file), "--home", str(home), check=1)
    assert not (home / "server").exists()
    file.write_bytes(whole)
    refused = shared.cli("restore", str(file), "--home", str(shared.home), check=4)
    assert "stop it first" in refused.stderr


def test_the_key_can_be_sealed_or_left_out(shared: Installation, tmp_path: Path) -> None:
    (tmp_path / "word").write_text("correct horse\n")
    (tmp_path / "other").write_text("battery staple\n")
    sealed, bare = tmp_path / "sealed.tar", tmp_path / "bare.tar"
    key = (shared.home / "server" / "key").read_text()
    shared.cli("backup", str(sealed), "--passphrase-file", str(tmp_path / "word"))
    shared.cli("backup", str(bare), "--without-key")
    for file in (sealed, bare):
        assert key.strip().encode() not in file.read_bytes()
        assert shared.token.encode() not in file.read_bytes()
    home = tmp_path / "home"
    refused = shared.cli("restore", str(sealed), "--home", str(home), check=4)
    assert "sealed" in refused.stderr
    refused = shared.cli(
        "restore", str(sealed), "--home", str(home), "--passphrase-file", str(tmp_path / "other"), check=4
    )
    assert "passphrase" in refused.stderr
    shared.cli("restore", str(sealed), "--home", str(home), "--passphrase-file", str(tmp_path / "word"))
    assert (home / "server" / "key").read_text() == key
    assert (home / "token").read_text().strip() == shared.token
    again = shared.cli("restore", str(bare), "--home", str(home), check=4)
    assert "empty folder" in again.stderr
    shared.cli("restore", str(bare), "--home", str(tmp_path / "bare"))
    assert not (tmp_path / "bare" / "server" / "key").exists()
