"""Runs of several learners through the whole product: one outcome, all logs, and nothing left alive."""

import pytest

from tests.support.installation import Installation, alive, manifest, write_code
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.story, pytest.mark.timeout(180)]
TWO = "small, nodes: 2"
WAIT = """
import os, pathlib, time
print(os.environ["RANK"], "of", os.environ["WORLD_SIZE"], flush=True)
while not (pathlib.Path(os.environ["RESULT_DIR"]) / "go").exists():
    time.sleep(0.02)
if os.environ["LEARNER_ID"] == "2":
    raise SystemExit(3)
time.sleep(100)
"""


def submit(yard: Installation, name: str, command: str, code: str = "", **more: str) -> str:
    folder = write_code(yard.folder / name, {"train.py": code})
    (yard.folder / f"{name}.yml").write_text(manifest(command, name=name, **more))
    return str(yard.json("train", str(folder), f"{name}.yml")["ids"][0])


def wait_for_lines(yard: Installation, run: str) -> None:
    for learner, line in (("1", "0 of 2"), ("2", "1 of 2")):
        wait_until(lambda n=learner, t=line: t in yard.cli("logs", run, "--learner", n).stdout, f"learner {learner}")


def stored(yard: Installation, run: str, name: str) -> str:
    with yard.client().read_result(run, name) as stream:
        return b"".join(stream.chunks()).decode()


def test_the_first_learner_that_fails_is_the_reason_though_the_node_died_meanwhile(shared: Installation) -> None:
    run = submit(shared, "gang", "python3 train.py", WAIT, configuration=TWO)
    wait_for_lines(shared, run)
    shared.kill("node")
    (shared.home / "node/runs" / run / "attempts/1/own/result/go").touch()
    shared.cli("wait", run, check=1)
    shown = shared.json("show", run)
    assert (shown["reason"], shown["fault"], shown["exit_code"]) == ("nonzero_exit", "user", 3)
    assert "Learner 2 failed first: exit code 3." in shared.cli("show", run).stdout
    assert "Learner 2 of 2 failed first" in stored(shared, run, "learner-1/training-log.txt")
    assert stored(shared, run, "learner-2/training-log.txt").startswith("1 of 2\n")
    assert alive(run) == []


def test_canceled_all_learners_are_gone(shared: Installation) -> None:
    run = submit(shared, "stopped", "python3 train.py", WAIT, configuration=TWO)
    wait_for_lines(shared, run)
    shared.cli("cancel", run)
    shared.cli("wait", run, check=3)
    assert alive(run) == []


def test_a_run_starts_from_what_another_has_left(shared: Installation) -> None:
    first = submit(shared, "first", "echo 17 > $CHECKPOINT_DIR/step")
    shared.cli("wait", first)
    extra = f"runyard: {{start_from: {first}}}\n"
    second = submit(shared, "second", "cat $CHECKPOINT_DIR/step", extra=extra)
    shared.cli("wait", second)
    assert stored(shared, second, "learner-1/training-log.txt") == "17\n"
    assert stored(shared, second, "checkpoints/step") == "17\n"
    shared.cli("data", "rm", f"results/{first}/checkpoints/step")
    third = submit(shared, "third", "cat $CHECKPOINT_DIR/step", extra=extra)
    shared.cli("wait", third, check=1)
    shown = shared.json("show", third)
    assert (shown["reason"], shown["fault"]) == ("start_from_missing", "user")
    assert "1 of the 1 files are not in its bucket" in stored(shared, third, "learner-1/load-data.log")
