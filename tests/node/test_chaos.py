"""Thirty runs through a node that is killed again and again, and a server that goes away now and then."""

import random
import time

from runyard.core import ids
from runyard.wire import facts, orders
from tests.node.nodes import NodeProcess, launch_of, stage_of, store_of
from tests.support.waiting import wait_until

PROGRAM = """
import os, time
print("begin", flush=True)
for number in range(10):
    print(number, flush=True)
    time.sleep(0.01)
for number in range(20):
    open(f"{os.environ['RESULT_DIR']}/{number}", "w").write("r" * number)
print("end")
"""
LOG = "".join(f"{line}\n" for line in ("begin", *range(10), "end")).encode()


class Story:
    """Answers each end with a store order and each stored run with its release, as a server does."""

    def __init__(self, node: NodeProcess) -> None:
        self.ends: dict[str, facts.Exited] = {}
        self.stored: set[str] = set()
        self.surprises: list[facts.Fact] = []
        self._give = node.server.give
        self._hear = node.server.hear
        node.server.hear = self.hear

    def hear(self, told: list[facts.Fact]) -> list[bool]:
        answer = self._hear(told)
        for fact in told:
            if isinstance(fact, facts.Exited) and fact.run not in self.ends:
                self.ends[fact.run] = fact
                self._give(store_of(run=fact.run))
            elif isinstance(fact, facts.Stored) and fact.run not in self.stored:
                self.stored.add(fact.run)
                self._give(orders.Release(fact.run))
            elif isinstance(fact, facts.Lost | facts.StoreFailed | facts.StageFailed):
                self.surprises.append(fact)
        return answer


def test_nothing_is_lost_and_nothing_runs_twice(node: NodeProcess) -> None:
    chance = random.Random(20)
    runs = [ids.run_id(chance.getrandbits(64)) for _ in range(30)]
    story = Story(node)
    stage = stage_of(node.server, {"program.py": PROGRAM})
    for run in runs:
        node.server.give(launch_of(stage, "python3 program.py", run=run))
        if chance.random() < 0.4:
            time.sleep(chance.uniform(0, 0.3))  # at any moment of a run's life
            node.kill()
            if chance.random() < 0.3:
                node.server.stop()
                node.server.start()
            node.start()
    wait_until(lambda: len(story.stored) == len(runs), "every run to be stored", seconds=60)
    wait_until(lambda: not list((node.home / "runs").iterdir()), "every run to be released")
    assert story.surprises == []
    assert {(end.exit_code, end.signal, end.launch_error) for end in story.ends.values()} == {(0, None, None)}
    bucket = node.server.bucket("results")
    for run in runs:
        assert node.server.log(run) == LOG
        assert bucket[f"{run}/learner-1/training-log.txt"] == LOG
        assert [bucket[f"{run}/{number}"] for number in range(20)] == [b"r" * number for number in range(20)]
