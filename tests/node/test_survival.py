"""Deaths of the node, the server and the shim: no program is harmed by the first two, and nothing is lost by any."""

import json
import os
import signal
import subprocess
import time

from runyard.node.home import Home
from runyard.shim.cgroups import cgroup_paths
from runyard.wire import facts
from tests.node.nodes import NODE, OTHER, RUN, NodeProcess, launch_of, marked, of_run, stage_of, store_of
from tests.support.waiting import wait_until

COUNT = """
import pathlib, sys, time
for n in range(400):
    print(f"line {n}", flush=True)
    if n == 100:
        print("ready", flush=True)
    time.sleep(0.005)
gate = pathlib.Path("go")
while not gate.exists():
    time.sleep(0.01)
sys.exit(5)
"""
LOG = "".join(f"line {n}\n" + ("ready\n" if n == 100 else "") for n in range(400)).encode()


def counting(node: NodeProcess) -> None:
    node.server.give(launch_of(stage_of(node.server, {"count.py": COUNT}), "python3 count.py"))
    node.server.wait(lambda: b"ready" in node.server.log(RUN), "the program's hundredth line")


def let_end(node: NodeProcess) -> None:
    (node.attempt() / "own" / "work" / "go").touch()


def ended_well(node: NodeProcess) -> None:
    exited = node.server.wait_for(facts.Exited)
    assert (exited.exit_code, exited.signal, exited.cause) == (5, None, None)
    node.server.wait(lambda: len(node.server.log(RUN)) >= exited.log_bytes, "the rest of the log")
    assert node.server.log(RUN)[: len(LOG)] == LOG
    assert node.server.log(RUN).count(b"line 399") == 1


def test_a_killed_node_is_followed_by_one_that_finds_the_program(node: NodeProcess) -> None:
    counting(node)
    node.kill()
    assert marked(RUN), "the program must go on"
    node.start()
    assert node.server.hellos[-1].held == (facts.Held(RUN, 1, "running", (0,)),)
    let_end(node)
    ended_well(node)
    began = [fact for fact in node.server.facts if isinstance(fact, facts.Began)]
    assert len({fact.at_ms for fact in began}) == 1


def test_a_node_that_ends_leaves_no_control_group_but_those_of_programs(node: NodeProcess) -> None:
    group = Home(str(node.home)).group
    counting(node)
    made = cgroup_paths(group)
    assert node.end() == 0
    assert cgroup_paths(group) == made, "the program goes on, and is in them"
    node.start()
    let_end(node)
    ended_well(node)
    assert node.end() == 0
    assert cgroup_paths(group) == []


def test_a_program_that_ends_while_there_is_no_node_is_told_of_afterwards(node: NodeProcess) -> None:
    counting(node)
    node.kill()
    let_end(node)
    wait_until((node.attempt() / "exit.json").exists, "the exit record")
    node.start()
    assert node.server.hellos[-1].held == (facts.Held(RUN, 1, "exited", (0,)),)
    ended_well(node)


def test_a_node_told_to_end_leaves_programs_running(node: NodeProcess) -> None:
    counting(node)
    assert node.end() == 0
    assert marked(RUN)
    node.start()
    let_end(node)
    ended_well(node)


def test_killed_again_and_again_it_still_ships_every_byte_once(node: NodeProcess) -> None:
    counting(node)
    for _ in range(4):
        size = len(node.server.log(RUN))
        node.kill()
        node.start()
        node.server.wait(
            lambda size=size: len(node.server.log(RUN)) > size or len(node.server.log(RUN)) >= len(LOG), "more"
        )
    let_end(node)
    ended_well(node)


def test_a_server_that_restarts_hears_everything(node: NodeProcess) -> None:
    counting(node)
    node.server.stop()
    let_end(node)
    wait_until((node.attempt() / "exit.json").exists, "the exit record")
    node.server.start()
    ended_well(node)


def test_a_server_that_lost_the_end_of_a_log_gets_it_again(node: NodeProcess) -> None:
    counting(node)
    node.server.stop()
    node.server.logs[RUN, 1, "training-log"] = node.server.logs[RUN, 1, "training-log"][:50]
    node.server.start()
    let_end(node)
    ended_well(node)


def test_orders_that_come_again_start_nothing_twice(node: NodeProcess) -> None:
    counting(node)
    node.server.cut_streams()
    node.server.wait(lambda: len(node.server.hellos) > 1, "the next hello")
    let_end(node)
    ended_well(node)
    pids = json.loads((node.attempt() / "started.json").read_text())
    assert pids["attempt"] == f"{RUN}/1"
    assert len(list((node.home / "runs" / RUN / "attempts").iterdir())) == 1


def test_a_second_node_in_the_same_folder_is_refused(node: NodeProcess) -> None:
    twin = subprocess.run(
        [*NODE, "--home", str(node.home), "--server", node.server.url], capture_output=True, text=True, check=False
    )
    assert twin.returncode == 1
    assert "Another node runs in" in twin.stderr


def kill_shim(node: NodeProcess) -> None:
    os.kill(json.loads((node.attempt() / "started.json").read_text())["shim_pid"], signal.SIGKILL)


def test_a_killed_shim_takes_its_program_along_and_is_told_as_lost(node: NodeProcess) -> None:
    node.server.give(launch_of(stage_of(node.server, {}), "setsid sleep 1000 & echo ready; sleep 1000"))
    node.server.wait(lambda: b"ready" in node.server.log(RUN), "the program's line")
    kill_shim(node)
    lost = node.server.wait_for(facts.Lost)
    assert (lost.run, lost.attempt, lost.reason) == (RUN, 1, "shim_lost")
    assert not marked(RUN)
    node.server.give(store_of())
    node.server.wait_for(facts.Stored)
    assert node.server.bucket("results")[f"{RUN}/learner-1/training-log.txt"] == b"ready\n"


def test_a_shim_that_died_before_the_machine_restarted_is_told_so(node: NodeProcess) -> None:
    counting(node)
    node.kill()
    kill_shim(node)
    wait_until(lambda: not marked(RUN), "the program's end")
    path = node.attempt() / "started.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"boot_id": "another-start"}))
    node.start()
    assert node.server.hellos[-1].held == (facts.Held(RUN, 1, "lost", (0,)),)
    assert node.server.wait_for(facts.Lost).reason == "machine_restarted"


def test_an_attempt_killed_while_it_was_prepared_is_started_by_the_next_launch(node: NodeProcess) -> None:
    node.kill()
    (node.attempt() / "own" / "work").mkdir(parents=True)
    (node.attempt() / "own" / "work" / "half").write_text("x")
    (node.attempt() / "lock").touch()
    node.server.give(launch_of(stage_of(node.server, {"a.txt": "1"}), "ls"))
    node.start()
    assert node.server.hellos[-1].held == (facts.Held(RUN, 1, "prepared"),)
    exited = node.server.wait_for(facts.Exited, of_run(RUN))
    assert exited.exit_code == 0
    node.server.wait(lambda: node.server.log(RUN) == b"a.txt\n", "the log of the new try")


def test_two_runs_beside_each_other(node: NodeProcess) -> None:
    stage = stage_of(node.server, {})
    for number, run in enumerate((RUN, OTHER)):
        node.server.give(launch_of(stage, f"echo {number}; exit {number}", run=run, slots=(number,)))
    for number, run in enumerate((RUN, OTHER)):
        assert node.server.wait_for(facts.Exited, of_run(run)).exit_code == number


def test_the_end_is_told_at_once(node: NodeProcess) -> None:
    stage = stage_of(node.server, {})
    node.server.give(launch_of(stage, "true"))
    exited = node.server.wait_for(facts.Exited)
    assert time.time() - exited.at_ms / 1000 < 5
