"""Several learners of one run: together or not at all, the first cause is the reason, all decide the outcome."""

import json
import os
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from runyard.wire import facts, orders
from tests.node.nodes import OTHER, RUN, NodeProcess, launch_of, marked, of_run, running_node, stage_of, store_of
from tests.support.waiting import wait_until

TELL = """
import json, os, sys, pathlib
names = ("LEARNER_ID", "NUM_LEARNERS", "LEARNER_NAME_PREFIX", "MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK",
         "WORLD_SIZE", "CUDA_VISIBLE_DEVICES", "GPU_COUNT", "RESULT_DIR", "CHECKPOINT_DIR", "LOG_DIR", "JOB_STATE_DIR",
         "HOME", "TMPDIR", "MODEL_DIR")
told = {name: os.environ[name] for name in names} | {"cwd": os.getcwd()}
pathlib.Path(os.environ["RESULT_DIR"], "rank-" + told["RANK"] + ".json").write_text(json.dumps(told))
pathlib.Path(os.environ["LOG_DIR"], "of-" + told["RANK"]).write_text("x")
pathlib.Path("left-by-" + told["RANK"]).write_text("y")
print("rank " + told["RANK"])
"""
WAIT = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"
"""A program that waits to be stopped."""


def gang(node: NodeProcess, command: str, files: Mapping[str, str] | None = None, **more: Any) -> None:
    fields: dict[str, Any] = {"learners": 2, "slots": (0, 1)} | more
    node.server.give(launch_of(stage_of(node.server, files or {}), command, **fields))


def by_learner(*commands: str) -> str:
    """A command that does something else in each learner."""
    cases = " ".join(f"{number}) {command};;" for number, command in enumerate(commands, 1))
    return f"case $LEARNER_ID in {cases} esac"


def log_of(node: NodeProcess, learner: int) -> bytes:
    return node.server.log(RUN, 1, "training-log" if learner == 1 else f"training-log/{learner}")


def ready(node: NodeProcess, *learners: int) -> None:
    for learner in learners:
        node.server.wait(lambda learner=learner: b"ready" in log_of(node, learner), f"learner {learner}'s line")


def record(node: NodeProcess, learner: int, name: str) -> dict[str, Any]:
    folder = node.attempt() if learner == 1 else node.attempt() / f"learner-{learner}"
    return json.loads((folder / name).read_text())


def kill_shim(node: NodeProcess, learner: int) -> None:
    os.kill(record(node, learner, "started.json")["shim_pid"], signal.SIGKILL)


def ended(node: NodeProcess) -> facts.Exited:
    """The one fact of the end; nothing of the run lives."""
    exited = node.server.wait_for(facts.Exited)
    assert not marked(RUN)
    return exited


def stored(node: NodeProcess, **more: Any) -> dict[str, bytes]:
    node.server.give(store_of(learners=2, **more))
    node.server.wait_for(facts.Stored)
    return {key.removeprefix(f"{RUN}/"): content for key, content in node.server.bucket("results").items()}


@pytest.fixture
def four(tmp_path: Path) -> Any:
    with running_node(tmp_path, "--fake-gpus", "4") as node:
        yield node


def test_two_learners_know_each_other_and_share_what_is_the_runs(node: NodeProcess) -> None:
    gang(node, "python3 tell.py", {"tell.py": TELL})
    exited = ended(node)
    assert (exited.exit_code, exited.signal, exited.cause, exited.detail) == (0, None, None, "")
    began = node.server.wait_for(facts.Began)
    assert began.at_ms == max(record(node, learner, "started.json")["started_at_ms"] for learner in (1, 2))
    there = stored(node)
    one, two = (json.loads(there[f"rank-{rank}.json"]) for rank in (0, 1))
    same = ("NUM_LEARNERS", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RESULT_DIR", "CHECKPOINT_DIR")
    assert [one[name] for name in same] == [two[name] for name in same]
    assert (one["NUM_LEARNERS"], one["WORLD_SIZE"], one["LEARNER_NAME_PREFIX"]) == ("2", "2", "learner")
    own = ("LEARNER_ID", "RANK", "LOCAL_RANK", "CUDA_VISIBLE_DEVICES", "GPU_COUNT")
    assert [one[name] for name in own] == ["1", "0", "0", "0", "1"]
    assert [two[name] for name in own] == ["2", "1", "0", "1", "1"]
    assert all(one[name] != two[name] for name in ("cwd", "LOG_DIR", "JOB_STATE_DIR", "HOME", "TMPDIR", "MODEL_DIR"))
    assert there["learner-1/of-0"] == there["learner-2/of-1"] == b"x"
    assert there["workdir/left-by-0"] == there["learner-2/workdir/left-by-1"] == b"y"
    assert there["learner-2/training-log.txt"] == log_of(node, 2)
    assert b"kept in " + f"{RUN}/learner-2/workdir/".encode() in log_of(node, 2)
    assert there["learner-1/training-log.txt"].startswith(b"rank 0\n")
    assert there["learner-2/load-data.log"]


def test_one_process_for_each_gpu_of_each_learner(four: NodeProcess) -> None:
    gang(four, "python3 tell.py", {"tell.py": TELL}, slots=(0, 1, 2, 3), launch="gpu")
    assert ended(four).exit_code == 0
    told = [json.loads((four.attempt() / f"own/result/rank-{rank}.json").read_text()) for rank in range(4)]
    names = ("RANK", "LEARNER_ID", "LOCAL_RANK", "WORLD_SIZE", "CUDA_VISIBLE_DEVICES", "GPU_COUNT")
    assert [[each[name] for name in names] for each in told] == [
        ["0", "1", "0", "4", "0,1", "2"],
        ["1", "1", "1", "4", "0,1", "2"],
        ["2", "2", "0", "4", "2,3", "2"],
        ["3", "2", "1", "4", "2,3", "2"],
    ]
    assert len({each["MASTER_PORT"] for each in told}) == 1


def test_one_that_ends_well_ends_nobody(node: NodeProcess) -> None:
    gang(node, by_learner("echo ready", "echo ready; until [ -e $RESULT_DIR/go ]; do sleep 0.02; done"))
    wait_until((node.attempt() / "exit.json").exists, "the end of the first learner")
    ready(node, 2)
    assert record(node, 1, "exit.json")["exit_code"] == 0
    node.kill()
    node.start()
    (node.attempt() / "own/result/go").touch()
    exited = ended(node)
    assert (exited.exit_code, exited.cause) == (0, None)
    assert record(node, 2, "exit.json")["cause"] is None


@pytest.mark.parametrize("killed", [False, True])
def test_the_first_that_fails_ends_the_others_and_is_the_reason(node: NodeProcess, killed: bool) -> None:
    gang(node, by_learner(WAIT, "echo ready; until [ -e $RESULT_DIR/go ]; do sleep 0.02; done; exit 3"))
    ready(node, 1, 2)
    if killed:
        node.kill()
    (node.attempt() / "own/result/go").touch()
    if killed:
        wait_until((node.attempt() / "learner-2/exit.json").exists, "the record of the one that failed")
        node.start()
    exited = ended(node)
    assert (exited.exit_code, exited.signal, exited.cause) == (3, None, None)
    assert exited.detail == "Learner 2 failed first: exit code 3."
    assert (record(node, 1, "exit.json")["exit_code"], record(node, 1, "exit.json")["cause"]) == (9, "peer")
    node.server.wait(lambda: len(log_of(node, 1)) >= exited.log_bytes, "the log")
    line = b"[runyard] Learner 2 of 2 failed first: exit code 3."
    assert log_of(node, 1).endswith(line + b" This one was stopped then.\n")
    node.server.wait(lambda: log_of(node, 2).endswith(line + b"\n"), "the log of the learner that failed")


def test_who_was_first_is_known_to_a_node_that_saw_none_of_it(node: NodeProcess) -> None:
    wait = "until [ -e $RESULT_DIR/{0} ]; do sleep 0.02; done; exit {0}"
    gang(node, by_learner("echo ready; " + wait.format(4), "echo ready; " + wait.format(5)))
    ready(node, 1, 2)
    node.kill()
    for name, path in (("5", "learner-2/exit.json"), ("4", "exit.json")):
        (node.attempt() / "own/result" / name).touch()
        wait_until((node.attempt() / path).exists, "an exit record")
    node.start()
    assert (ended(node).exit_code, node.server.hellos[-1].held[0].state) == (5, "exited")


def test_the_first_process_that_fails_decides_though_its_learner_ends_last(four: NodeProcess) -> None:
    """A process of learner 2 fails, and its other one takes its grace; learner 1, which lost its peers, fails next."""
    files = {
        "one.sh": "until [ -e $RESULT_DIR/told ]; do sleep 0.02; done; exit 1",
        "two.sh": """until_there() { until [ -e $1 ]; do sleep 0.02; done; }
                     [ $LOCAL_RANK = 0 ] || { until_there $RESULT_DIR/trapped; exit 7; }
                     trap 'touch $RESULT_DIR/told; until_there ../../../exit.json; exit 0' TERM
                     touch $RESULT_DIR/trapped; while :; do sleep 0.05; done""",
    }
    gang(four, by_learner("bash one.sh", "bash two.sh"), files, slots=(0, 1, 2, 3), launch="gpu")
    exited = ended(four)
    assert (exited.exit_code, exited.detail) == (7, "Learner 2 failed first: exit code 7.")
    ends = [record(four, learner, "exit.json")["boottime_ended_ms"] for learner in (1, 2)]
    assert ends[0] < ends[1]


def test_a_stop_order_stops_all_at_once(node: NodeProcess) -> None:
    gang(node, WAIT)
    ready(node, 1, 2)
    node.server.give(orders.Stop(RUN, 1, "cancel", 5000))
    exited = ended(node)
    assert (exited.cause, exited.exit_code, exited.detail) == ("cancel", 9, "")
    assert [record(node, learner, "exit.json")["cause"] for learner in (1, 2)] == ["cancel", "cancel"]


def test_a_time_limit_is_the_reason_whoever_ends_first(node: NodeProcess) -> None:
    slow = "trap 'sleep 0.5; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    gang(node, by_learner(slow, "echo ready; while :; do sleep 0.05; done"), max_runtime_ms=700)
    exited = ended(node)
    assert exited.cause == "time_limit"


def test_a_lost_shim_ends_the_gang(node: NodeProcess) -> None:
    gang(node, WAIT)
    ready(node, 1, 2)
    kill_shim(node, 2)
    lost = node.server.wait_for(facts.Lost)
    assert lost.reason == "shim_lost"
    assert lost.detail.endswith("It was that of learner 2.")
    assert not marked(RUN)
    assert not [fact for fact in node.server.facts if isinstance(fact, facts.Exited)]
    node.server.wait(lambda: b"Learner 2 of 2 was lost" in log_of(node, 1), "the last line of the other's log")


def test_a_gang_broken_off_at_its_start_is_ended_and_told_as_such(node: NodeProcess) -> None:
    """The node dies when one shim runs and the other was never started."""
    gang(node, WAIT)
    ready(node, 1, 2)
    node.kill()
    kill_shim(node, 2)
    folder = node.attempt() / "learner-2"
    wait_until(lambda: record(node, 2, "started.json")["pid"] not in marked(RUN), "the end of the second learner")
    (folder / "started.json").unlink()
    node.start()
    exited = ended(node)
    assert exited.launch_error is not None
    assert "Learner 2 could not be started: The node was restarted" in exited.detail
    assert record(node, 1, "exit.json")["cause"] == "peer"


def test_one_that_cannot_be_started_keeps_all_from_it(node: NodeProcess) -> None:
    """What learner 2's shim says has no file to go to."""
    node.kill()
    (node.attempt() / "learner-2" / "shim-errors.txt").mkdir(parents=True)
    gang(node, WAIT)
    node.start()
    exited = ended(node)
    assert exited.launch_error == "This machine's disk could not take the attempt, or start it: Is a directory."
    assert exited.detail.startswith("Learner 2 could not be started")
    assert not [fact for fact in node.server.facts if isinstance(fact, facts.Began)]


def test_released_while_they_run_nothing_is_left(node: NodeProcess) -> None:
    gang(node, WAIT)
    ready(node, 1, 2)
    node.server.give(orders.Release(RUN))
    wait_until(lambda: not (node.home / "runs" / RUN).exists(), "the folder to go")
    assert not marked(RUN)


def test_earlier_attempts_keep_the_logs_of_all_learners(node: NodeProcess) -> None:
    both = "touch $RESULT_DIR/$LEARNER_ID; until [ -e $RESULT_DIR/1 -a -e $RESULT_DIR/2 ]; do sleep 0.02; done"
    gang(node, f"echo first; {both}; exit 1")
    ended(node)
    gang(node, "echo second", attempt=2)
    node.server.wait_for(facts.Exited, of_run(RUN, 2))
    there = stored(node, attempt=2, earlier=(1,))
    assert there["learner-2/training-log.txt"] == b"second\n"
    assert there["attempts/1/learner-2/training-log.txt"].startswith(b"first\n")


def test_the_port_of_two_runs_is_never_the_same_and_outside_the_kernels_range(node: NodeProcess) -> None:
    for run, slot in ((RUN, 0), (OTHER, 1)):
        node.server.give(launch_of(stage_of(node.server, {}), f"echo $MASTER_PORT; {WAIT}", run=run, slots=(slot,)))
    node.server.wait(lambda: all(b"ready" in node.server.log(run) for run in (RUN, OTHER)), "both runs")
    first, second = (int(node.server.log(run).split()[0]) for run in (RUN, OTHER))
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert first != second
    assert not low <= first <= high
    node.kill()
    assert is_held(first)
    node.start()
    node.server.give(orders.Stop(RUN, 1, "cancel", 0))
    node.server.wait_for(facts.Exited)
    wait_until(lambda: not is_held(first), "the port to be let go")


def is_held(port: int) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(f"\0runyard-port-{port}")
        except OSError:
            return True
    return False


def origin(node: NodeProcess, files: Mapping[str, str]) -> orders.Origin:
    """Another run whose checkpoints are in the bucket."""
    entries = [{"path": path, "size": len(text), "modified_ns": 1} for path, text in files.items()]
    manifest = {"run": OTHER, "written_at_ms": 1, "files": entries}
    for path, text in (*files.items(), ("manifest.json", json.dumps(manifest))):
        node.server.put_object("results", f"{OTHER}/checkpoints/{path}", text.encode())
    return orders.Origin(OTHER, orders.Place("local", "results", account="acme"))


def test_a_run_starts_from_the_checkpoints_of_another(node: NodeProcess) -> None:
    begin = origin(node, {"deep/step": "17\n"})
    gang(node, "cat $CHECKPOINT_DIR/deep/step; [ $LEARNER_ID = 2 ] || echo 18 > $CHECKPOINT_DIR/mine", start_from=begin)
    assert ended(node).exit_code == 0
    node.server.wait(lambda: log_of(node, 1) == log_of(node, 2) == b"17\n", "both logs")
    there = stored(node)
    assert (there["checkpoints/deep/step"], there["checkpoints/mine"]) == (b"17\n", b"18\n")
    assert f"{OTHER}/checkpoints/mine" not in node.server.bucket("results")


def lose_a_file(node: NodeProcess) -> None:
    del node.server.objects["acme", "results", f"{OTHER}/checkpoints/step"]


def lose_all(node: NodeProcess) -> None:
    for key in [key for key in node.server.objects if key[2].startswith(OTHER)]:
        del node.server.objects[key]


@pytest.mark.parametrize(
    ("lose", "words"), [(lose_a_file, "1 of the 2 files are not in its bucket"), (lose_all, "there are none")]
)
def test_checkpoints_that_cannot_be_had_are_the_users_to_mend(
    node: NodeProcess, lose: Callable[[NodeProcess], None], words: str
) -> None:
    begin = origin(node, {"step": "17", "other": "x"})
    lose(node)
    gang(node, "true", start_from=begin)
    exited = ended(node)
    assert exited.launch_reason == "start_from_missing"
    assert exited.launch_error is not None
    assert words in exited.launch_error
    assert not (node.home / "runs" / RUN / "checkpoints").exists()
    assert words.encode() in stored(node)["learner-1/load-data.log"]
