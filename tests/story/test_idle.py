"""Runs that do nothing, in a whole installation: told, then put back with their checkpoint, then given up."""

from pathlib import Path

import pytest

from tests.support.installation import Installation, manifest, running_installation, write_code
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.story, pytest.mark.timeout(300)]

STUCK = """
import os, pathlib, sys, threading
kept = pathlib.Path(os.environ["CHECKPOINT_DIR"], "tries")
tries = int(kept.read_text()) if kept.exists() else 0
kept.write_text(str(tries + 1))
print("try", tries + 1, flush=True)
if tries == int(sys.argv[1]):
    sys.exit(0)
threading.Event().wait()
"""
WAITS = """
import os, pathlib, time
go = pathlib.Path(os.environ["CHECKPOINT_DIR"], "go")
print("begun", flush=True)
while not go.exists():
    time.sleep(1)
print("goes on", flush=True)
while not go.with_name("end").exists():
    print(".", flush=True)
    time.sleep(0.2)
"""


def train(yard: Installation, code: Path, command: str, idle: str, name: str) -> str:
    (yard.folder / f"{name}.yml").write_text(manifest(command, name=name, extra=f"runyard: {{idle: {idle}}}\n"))
    return str(yard.json("train", str(code), f"{name}.yml")["ids"][0])


def kinds(yard: Installation, run: str) -> list[str]:
    return [each["kind"] for each in yard.events() if each["run"] == run]


def test_a_run_that_does_nothing_is_told_and_by_its_policy_put_back_or_stopped(tmp_path: Path) -> None:
    with running_installation(tmp_path, "--fake-gpus", "3", settings="idle_requeues = 1\n") as yard:
        client = yard.client()
        code = write_code(yard.folder / "code", {"stuck.py": STUCK, "waits.py": WAITS})
        told = train(yard, code, "exec python3 waits.py", "2s", "told")
        once = train(yard, code, "exec python3 stuck.py 1", "{after: 2s, then: requeue}", "once")
        ever = train(yard, code, "exec python3 stuck.py 9", "{after: 2s, then: requeue}", "ever")
        stop = train(yard, code, "exec python3 stuck.py 9", "{after: 2s, then: stop}", "stop")

        wait_until(lambda: client.run(told).reason == "hung", "it is told", 60)
        assert "no log, no metric, no CPU and no GPU use" in (client.run(told).sentence or "")
        assert "Nothing more is seen of it" in yard.cli("list").stdout
        assert client.run(told).state == "running", "nothing else was asked for"
        yard.kill("server")
        yard.kill("node")
        yard.wait_connected()

        runs = {run.id: run for run in client.wait([once, ever, stop], timeout=120)}
        assert [each.reason for each in runs[once].attempts] == ["idle_requeued", "finished"]
        assert b"try 2" in client.log(once), "it goes on with its checkpoint"
        assert [each.reason for each in runs[ever].attempts] == ["idle_requeued", "idle"]
        assert "put back 1 times before" in (runs[ever].sentence or "")
        assert (runs[stop].state, runs[stop].reason, len(runs[stop].attempts)) == ("failed", "idle", 1)

        assert kinds(yard, told).count("quiet") == 1, "restarts neither forget nor repeat it"
        kept = yard.home / "node" / "runs" / told / "checkpoints"
        (kept / "go").touch()
        wait_until(lambda: client.run(told).reason is None, "it does something again", 60)
        (kept / "end").touch()
        assert [run.state for run in client.wait([told], timeout=60)] == ["completed"]
        assert [kind for kind in kinds(yard, told) if kind in ("quiet", "active")] == ["quiet", "active"]
