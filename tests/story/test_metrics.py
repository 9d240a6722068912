"""Metrics through the whole product: while the server and the node are killed, over a retry, followed and compared."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runyard.client import NewPoints
from tests.support.installation import Installation, manifest, write_code
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.story, pytest.mark.timeout(200)]

STEADY = """\
import os, pathlib, time, runyard
for n in range(600):
    runyard.log(step=n, group="train", loss=1 / (n + 1))
    time.sleep(0.005)
gate = pathlib.Path("go")
while not gate.exists():
    time.sleep(0.01)
runyard.log(step=600, group="train", loss=0)
"""


def steps_of(yard: Installation, run: str) -> list[int | None]:
    return [step for series in yard.client().metrics(run, points=True).series for step in series.steps]


def test_every_point_is_there_once_though_server_and_node_are_killed(shared: Installation) -> None:
    write_code(shared.folder / "steady", {"train.py": STEADY})
    (shared.folder / "steady.yml").write_text(manifest("python3 train.py"))
    (run,) = shared.json("train", "steady", "steady.yml")["ids"]
    following = subprocess.Popen(
        [sys.executable, "-c", FOLLOW, shared.url, shared.token, run], stdout=subprocess.PIPE, text=True
    )
    wait_until(lambda: len(steps_of(shared, run)) > 50, "the first points", 60)
    shared.kill("node")
    shared.kill("server")
    shared.wait_connected()
    wait_until(lambda: len(steps_of(shared, run)) == 600, "the other points", 60)
    shared.kill("node")
    (gate,) = (shared.home / "node" / "runs" / run).glob("attempts/1/own/work")
    (gate / "go").touch()
    (ended,) = shared.client().wait([run], timeout=60)
    assert ended.state == "completed"
    assert steps_of(shared, run) == list(range(601))
    assert json.loads(following.communicate(timeout=60)[0]) == list(range(601))
    assert ended.metrics["train/loss"].points == 601
    assert (ended.metrics["train/loss"].best, ended.metrics["train/loss"].best_step) == (0.0, 600)


FOLLOW = """
import json, sys
from runyard.client import Client, NewPoints
told = Client(sys.argv[1], sys.argv[2]).follow_metrics(sys.argv[3])
print(json.dumps([step for item in told if isinstance(item, NewPoints) for s in item.series for step in s.steps]))
"""

RETRIED = """\
import os, pathlib, runyard
count = pathlib.Path(os.environ["CHECKPOINT_DIR"], "count")
first = int(count.read_text()) if count.exists() else 0
for n in range(first, first + 5):
    runyard.log({"accuracy": n / 10, "loss": 10 - n}, step=n)
count.write_text(str(first + 5))
raise SystemExit(first == 0)
"""


def test_a_retry_goes_on_with_the_curve_and_runs_are_compared(shared: Installation) -> None:
    write_code(shared.folder / "retried", {"train.py": RETRIED})
    extra = "runyard: {max_retries: 1, tags: [retried], env: {A: b}}\n"
    (shared.folder / "retried.yml").write_text(manifest("python3 train.py", extra=extra))
    done = shared.cli("train", "retried", "retried.yml", "--set", "a=1,2", "--force", "--wait")
    runs = done.stdout.split()
    told = shared.client().metrics(runs[0], points=True)
    assert [(each.name, each.steps) for each in told.series] == [
        ("accuracy", tuple(range(10))), ("loss", tuple(range(10))),
    ]  # fmt: skip
    attempts = [
        series.attempt
        for item in shared.client().follow_metrics(runs[0])
        if isinstance(item, NewPoints)
        for series in item.series
    ]
    assert attempts == [1, 1, 2, 2]
    table = shared.cli("metrics", "tag:retried").stdout.splitlines()
    assert table[0].split() == ["NAME", "RUN", "POINTS", "LAST", "STEP", "LOWEST", "HIGHEST", "CURVE"]
    assert [line.split()[:6] for line in table[1:]] == [
        [name, run, "10", last, "9", low]
        for name, last, low in (("accuracy", "0.9", "0"), ("loss", "1", "1"))
        for run in reversed(runs)
    ]
    head, *lines = shared.cli("metrics", "--name", "loss", "--csv", *runs).stdout.splitlines()
    assert head == "run,group,name,learner,attempt,step,time,value"
    assert [line.split(",")[0] for line in lines] == [runs[0]] * 10 + [runs[1]] * 10
    outcome = [line.split() for line in done.stderr.splitlines() if line.startswith(("ID", "training-"))]
    header = next(line for line in outcome if line[0] == "ID")
    assert header[:6] == ["ID", "STATE", "a", "accuracy", "loss", "CURVE"]
    assert outcome[-1][3:5] == ["0.9", "1"]


def test_monitor_metrics_prints_points_line_by_line_and_tells_the_end(shared: Installation) -> None:
    write_code(shared.folder / "retried", {"train.py": RETRIED})
    (shared.folder / "once.yml").write_text(manifest("python3 train.py; exit 3"))
    done = shared.cli("train", "retried", "once.yml")
    monitored = shared.cli("monitor", "training-runs", done.stdout.strip(), "metrics", check=1)
    assert monitored.stdout.splitlines() == [f"step {n}  accuracy={n / 10:g}  loss={10 - n}" for n in range(5)]
    assert "failed" in monitored.stderr


def test_a_run_without_metrics_says_how_to_have_them(shared: Installation, tmp_path: Path) -> None:
    (shared.folder / "none.yml").write_text(manifest("true"))
    write_code(shared.folder / "none", {"a.txt": ""})
    run = shared.cli("train", "none", "none.yml", "--wait").stdout.strip()
    shown = shared.cli("metrics", run)
    assert shown.stdout == ""
    assert "runyard.log(step=1, loss=0.5)" in shown.stderr
    assert shared.json("metrics", run)["items"] == []
    assert shared.json("show", run)["metrics"] == {}
