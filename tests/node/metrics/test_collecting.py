"""A real node collects what real programs measure, in every way, and ships each point once."""

import json
import math

from runyard.core.metrics import Series
from runyard.ports.metrics import MetricKey, Piece
from runyard.testing.memory_metrics import MemoryMetrics
from runyard.wire import facts, orders
from tests.node.metrics.tfwriting import scalars
from tests.node.nodes import RUN, NodeProcess, launch_of, of_run, run_to_end, stage_of, store_of
from tests.support.waiting import wait_until

WAITING = """
import pathlib, time
while not pathlib.Path("go").exists():
    time.sleep(0.01)
"""


def piece(node: NodeProcess, learner: int = 1) -> Piece:
    """What the server has of a learner's metrics."""
    name = "metrics" if learner == 1 else f"metrics/{learner}"
    metrics, key = MemoryMetrics(), MetricKey(RUN, 1, learner)
    metrics.append(key, 0, node.server.logs.get((RUN, 1, name), b""))
    return metrics.read(key, 0, 1 << 40)


def series(node: NodeProcess, learner: int = 1) -> dict[tuple[str, str], Series]:
    return {(each.group, each.name): each for each in piece(node, learner).series}


def steps(node: NodeProcess, group: str = "", name: str = "loss", learner: int = 1) -> list[int]:
    found = series(node, learner).get((group, name))
    return [] if found is None else list(found.steps)


def wait_for(node: NodeProcess, count: int, group: str = "", name: str = "loss") -> None:
    node.server.wait(lambda: len(steps(node, group, name)) >= count, f"{count} points of {group}/{name}")


def test_the_recorder_in_the_node_s_own_interpreter(node: NodeProcess) -> None:
    code = "import runyard\nfor n in range(500): runyard.log(step=n, loss=1 / (n + 1), group='train')\n"
    assert run_to_end(node, "python train.py", {"train.py": code}).exit_code == 0
    wait_for(node, 500, "train")
    found = series(node)["train", "loss"]
    assert list(found.steps) == list(range(500))
    assert list(found.values) == [1 / (n + 1) for n in range(500)]
    assert piece(node).notes == ()


def test_points_come_while_the_program_runs_and_odd_values_are_kept(node: NodeProcess) -> None:
    code = """
import runyard
runyard.log({'loss': float('nan'), 'x': 'no number'}, step=1)
runyard.log(loss=float('inf'))
"""
    order = launch_of(stage_of(node.server, {"a.py": code + WAITING}), "python a.py")
    node.server.give(order)
    wait_for(node, 2)
    found = series(node)["", "loss"]
    assert (list(found.steps), math.isnan(found.values[0]), found.values[1]) == ([1, -(2**63)], True, math.inf)
    (node.attempt() / "own" / "work" / "go").touch()
    assert node.server.wait_for(facts.Exited).exit_code == 0
    node.server.wait(lambda: b"'x' is no number" in node.server.log(RUN), "the warning")


def test_a_run_that_measures_nothing_costs_no_file_and_no_request(node: NodeProcess) -> None:
    assert run_to_end(node, "true", {}).exit_code == 0
    node.server.give(store_of())
    assert node.server.wait_for(facts.Stored).run == RUN
    assert not (node.attempt() / "metrics.spool").exists()
    assert (RUN, 1, "metrics") not in node.server.logs


def test_several_processes_and_threads_of_a_program_write_beside_each_other(node: NodeProcess) -> None:
    code = """
import os, threading, runyard
def work(number):
    for n in range(200):
        runyard.log(step=n, **{"loss%d" % number: n})
runyard.log(step=0, first=1)
children = []
for number in range(4):
    pid = os.fork()
    if pid == 0:
        threads = [threading.Thread(target=work, args=(number * 2 + k,)) for k in range(2)]
        for each in threads: each.start()
        for each in threads: each.join()
        os._exit(0)
    children.append(pid)
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
"""
    assert run_to_end(node, "python train.py", {"train.py": code}).exit_code == 0
    wait_for(node, 200, name="loss7")
    node.server.wait(lambda: sum(map(len, series(node).values())) == 1601, "all points")
    for number in range(8):
        assert steps(node, name=f"loss{number}") == list(range(200))
    assert piece(node).notes == ()


def test_every_other_way_in(node: NodeProcess) -> None:
    line = {"grouplabel": "test", "etimes": {"iteration": {"value": "3"}}, "values": {"accuracy": {"value": "0.9"}}}
    files: dict[str, str | bytes] = {
        "tb": scalars([(1, 0.5), (2, 0.25)]),
        "runs/old/events.out.tfevents.1.old": scalars([(99, 9.0)]),
        "metrics.txt": json.dumps(line) + "\nnot JSON\n",
    }
    command = """
mkdir -p "$JOB_STATE_DIR/logs/tb/train" runs/new lightning_logs/version_0 "$RESULT_DIR/tb" "$LOG_DIR/4"
cp tb "$JOB_STATE_DIR/logs/tb/train/events.out.tfevents.1.a"
cp tb runs/new/events.out.tfevents.1.a
cp tb lightning_logs/version_0/events.out.tfevents.1.a
cp tb "$RESULT_DIR/tb/events.out.tfevents.1.a"
cp tb events.out.tfevents.1.a
cp metrics.txt "$LOG_DIR/evaluation-metrics.txt"
cp metrics.txt "$LOG_DIR/4/evaluation-metrics.txt"
ln -s /etc/passwd events.out.tfevents.2.link
mkfifo events.out.tfevents.3.fifo
echo 'epoch 1: loss=0.5'; echo 'epoch 2: loss=0.125'
"""
    evaluation = orders.Evaluation("regex_extractor", "", (("log", r"epoch (?P<epoch>\d+): loss=(?P<loss>\S+)"),))
    assert run_to_end(node, command, files, evaluation=evaluation).exit_code == 0
    wait_for(node, 2, "train")
    groups = ["train", "runs/new", "lightning_logs/version_0", "tb", "", "log"]
    assert {group: steps(node, group) for group in groups} == {group: [1, 2] for group in groups}
    found = series(node)
    assert set(found) == {*((group, "loss") for group in groups), ("test", "accuracy"), ("4/test", "accuracy")}
    assert list(found["log", "loss"].values) == [0.5, 0.125]
    assert list(found["test", "accuracy"].steps) == [3]
    (note,) = piece(node).notes
    assert "evaluation-metrics.txt" in note


def test_folders_made_later_are_found_while_the_program_runs(node: NodeProcess) -> None:
    code = (
        "import os, time\nos.makedirs('runs/a/b')\n"
        "f = open('runs/a/b/events.out.tfevents.1.x', 'ab', buffering=0)\n"
        "data = open('tb', 'rb').read()\n"
        "for n in range(0, len(data), 11): f.write(data[n:n + 11]); time.sleep(0.001)\n"
    )
    files: dict[str, str | bytes] = {"tb": scalars([(n, n / 2) for n in range(100)]), "a.py": code + WAITING}
    node.server.give(launch_of(stage_of(node.server, files), "python a.py"))
    wait_for(node, 100, "runs/a/b")
    assert steps(node, "runs/a/b") == list(range(100))
    (node.attempt() / "own" / "work" / "go").touch()
    node.server.wait_for(facts.Exited)


def test_where_the_manifest_says_that_metrics_are(node: NodeProcess) -> None:
    files: dict[str, str | bytes] = {"m": '{"grouplabel":"g","values":{"a":{"type":3,"value":"1"}}}\n'}
    command = "mkdir -p $RESULT_DIR/deep && cp m $RESULT_DIR/deep/my-metrics.txt"
    evaluation = orders.Evaluation("emetrics_file", "${RESULT_DIR}/deep/my-metrics.txt")
    assert run_to_end(node, command, files, evaluation=evaluation).exit_code == 0
    wait_for(node, 1, "g", "a")


SLOW = """
import time, runyard
for n in range(3000):
    runyard.log(step=n, loss=n)
    if n % 10 == 0:
        time.sleep(0.01)
"""


def test_killed_again_and_again_the_node_ships_every_point_once(node: NodeProcess) -> None:
    node.server.give(launch_of(stage_of(node.server, {"a.py": SLOW + WAITING}), "python a.py"))
    for wanted in (1, 200, 600, 900):
        wait_for(node, wanted)
        node.kill()
        node.start()
    node.server.stop()
    node.server.start()
    wait_for(node, 3000)
    node.kill()
    (node.attempt() / "own" / "work" / "go").touch()
    node.start()
    assert node.server.wait_for(facts.Exited, of_run(RUN)).exit_code == 0
    assert steps(node) == list(range(3000))
    assert (node.attempt() / "metrics.spool").read_bytes() == node.server.logs[RUN, 1, "metrics"]


def test_a_server_that_lost_the_end_of_the_metrics_gets_it_again(node: NodeProcess) -> None:
    node.server.give(launch_of(stage_of(node.server, {"a.py": SLOW + WAITING}), "python a.py"))
    wait_for(node, 3000)
    node.server.stop()
    key = (RUN, 1, "metrics")
    node.server.logs[key] = node.server.logs[key][:100]
    node.server.start()
    wait_for(node, 3000)
    assert steps(node) == list(range(3000))
    (node.attempt() / "own" / "work" / "go").touch()
    node.server.wait_for(facts.Exited)


def test_two_learners_have_a_stream_each(node: NodeProcess) -> None:
    code = "import os, runyard\nrunyard.log(step=int(os.environ['LEARNER_ID']), loss=1)\n"
    node.server.give(
        launch_of(stage_of(node.server, {"a.py": code}), "python a.py", slots=(0, 1), learners=2, memory_mib=256)
    )
    assert node.server.wait_for(facts.Exited).exit_code == 0
    node.server.wait(lambda: (steps(node), steps(node, learner=2)) == ([1], [2]), "the points of both")


def test_no_metrics_no_requests(node: NodeProcess) -> None:
    assert run_to_end(node, "true").exit_code == 0
    node.server.give(orders.Release(RUN))
    wait_until(lambda: not (node.home / "runs" / RUN).exists(), "the release")
    assert not [line for line in node.server.requests if "/metrics/" in line]
