"""Gangs through a node that is killed again and again: each ends once, whole or not at all, and nothing is left."""

import random
import time

import msgspec

from runyard.core import ids
from runyard.wire import facts
from tests.node.nodes import NodeProcess, launch_of, marked, stage_of
from tests.node.test_chaos import Story
from tests.support.waiting import wait_until

LEARNERS = 4
PROGRAM = (
    "echo begin; sleep 0.15; touch $RESULT_DIR/$LEARNER_ID; [ $TRAINING_JOB = well ] || [ $LEARNER_ID != 3 ]; echo end"
)


def test_every_gang_is_whole_or_never_was(node: NodeProcess) -> None:
    chance = random.Random(7)
    stage = stage_of(node.server, {})
    story = Story(node)
    runs = {ids.run_id(chance.getrandbits(64)): chance.choice(("well", "badly")) for _ in range(7)}
    for run, name in runs.items():
        order = launch_of(stage, PROGRAM, run=run, learners=LEARNERS, slots=tuple(range(LEARNERS)), grace_ms=1000)
        node.server.give(msgspec.structs.replace(order, name=name))
        if chance.random() < 0.5:  # while the shims are started, one after the other
            wait_until((node.attempt(run) / "lock").exists, "the first shim", pause=0.0005)
            time.sleep(chance.uniform(0, 0.02))
        else:  # at any moment of its life
            time.sleep(chance.uniform(0, 0.3))
        node.kill()
        node.start()
    wait_until(lambda: len(story.stored) == len(runs), "every run to be stored", seconds=60)
    wait_until(lambda: not list((node.home / "runs").iterdir()), "every run to be released")
    assert story.surprises == []
    began = {fact.run for fact in node.server.facts if isinstance(fact, facts.Began)}
    bucket = node.server.bucket("results")
    for run, name in runs.items():
        end = story.ends[run]
        assert not marked(run)
        if end.launch_error is not None:
            assert "restarted while it was starting the learners" in end.launch_error
            assert run not in began
        elif name == "well":
            assert (end.exit_code, end.cause) == (0, None)
            assert all(f"{run}/{learner}" in bucket for learner in range(1, LEARNERS + 1))
        else:
            assert (end.exit_code, end.cause, end.detail) == (1, None, "Learner 3 failed first: exit code 1.")
