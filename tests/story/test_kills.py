"""SIGKILL to the server, to the node, to both, in the middle of twenty running and eighty waiting runs."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runyard.client import Run
from tests.support.installation import Installation, manifest, running_installation, write_code
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.story, pytest.mark.slow, pytest.mark.timeout(400)]
RUNS = 100
SLOTS = 20
LINES = 60

PROGRAM = f"""\
import os, time
written = 0
for number in range({LINES}):
    line = f"line {{number}} of run {{os.environ['TRAINING_ID']}}\\n".encode()
    assert os.write(1, line) == len(line)
    written += len(line)
    time.sleep(0.1)
open(os.environ["RESULT_DIR"] + "/written.txt", "w").write(str(written))
"""


def test_kills_lose_nothing_and_disturb_nobody(tmp_path: Path) -> None:
    with running_installation(tmp_path, "--fake-gpus", str(SLOTS)) as yard:
        write_code(yard.folder / "code", {"train.py": PROGRAM})
        (yard.folder / "m.yml").write_text(manifest("exec python3 train.py"))
        values = ",".join(str(index) for index in range(RUNS))
        ids = [str(each) for each in yard.json("train", "code", "m.yml", "--set", f"n={values}", "--force")["ids"]]
        wait_until(lambda: counts(yard).get("running", 0) >= SLOTS - 2, "the first runs", 60)
        yard.kill("server")
        yard.wait_connected()
        yard.kill("node")
        yard.wait_connected()
        kill_both(yard)
        yard.wait_connected()
        runs = yard.client().wait(ids, timeout=300)
        check_once(yard, runs)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda run: check_log(yard, run), runs))


def counts(yard: Installation) -> dict[str, int]:
    return yard.get("/status")["counts"]


def kill_both(yard: Installation) -> None:
    for pid in (yard.child("server"), yard.child("node")):
        os.kill(pid, signal.SIGKILL)


def check_once(yard: Installation, runs: list[Run]) -> None:
    """Every run completed in its first attempt, and was assigned, begun, ended and finished once."""
    assert {run.state for run in runs} == {"completed"}
    assert {len(run.attempts) for run in runs} == {1}
    events = yard.events()
    assert [event["seq"] for event in events] == sorted({event["seq"] for event in events})
    for kind in ("accepted", "staged", "assigned", "running", "attempt_ended", "finished"):
        told = [event["run"] for event in events if event["kind"] == kind]
        if kind == "assigned":  # a grant that the server gave slots, and that took others by itself, is told of twice
            told = list(
                {(event["run"], event["attempt"]): event["run"] for event in events if event["kind"] == kind}.values()
            )
        assert sorted(told) == sorted(run.id for run in runs), kind


def check_log(yard: Installation, run: Run) -> None:
    """Each line once, in order, in the server's log and in the bucket."""
    expected = "".join(f"line {number} of run {run.id}\n" for number in range(LINES)).encode()
    client = yard.client()
    with client.read_result(run.id, "learner-1/training-log.txt") as stored:
        assert b"".join(stored.chunks()) == expected
    with client.read_result(run.id, "written.txt") as told:
        assert int(b"".join(told.chunks())) == len(expected)
    assert client.log(run.id) == expected


SHORT = """\
import os, time
time.sleep(0.05)
os.write(1, f"{os.environ['TRAINING_ID']} was here\\n".encode())
"""


def test_kills_among_short_runs_that_are_granted_ahead(tmp_path: Path) -> None:
    """Many begin by themselves on the node, whose word the server has not heard yet when either dies."""
    with running_installation(tmp_path, "--fake-gpus", "2") as yard:
        write_code(yard.folder / "code", {"train.py": SHORT})
        (yard.folder / "m.yml").write_text(manifest("python3 train.py"))
        values = ",".join(str(index) for index in range(200))
        ids = [str(each) for each in yard.json("train", "code", "m.yml", "--set", f"n={values}", "--force")["ids"]]
        for number, victims in enumerate((("server",), ("node",), ("node", "server"), ("server",), ("node",)), 1):
            wait_until(lambda n=number: counts(yard).get("completed", 0) >= 25 * n, "some more ends", 60)
            for room in victims:
                yard.kill(room)
            yard.wait_connected()
        runs = yard.client().wait(ids, timeout=300)
        check_once(yard, runs)
        assert {run.attempts[-1].way for run in runs} >= {"warm"}
        with ThreadPoolExecutor(4) as pool:
            logs = list(pool.map(yard.client().log, [run.id for run in runs]))
        assert logs == [f"{run.id} was here\n".encode() for run in runs]
