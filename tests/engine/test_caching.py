"""Asking nodes about their caches."""

import threading

from runyard.engine.caching import Caches
from runyard.ports.caches import CacheAction, CacheContent
from runyard.testing.fakes import AskedCache, RecordingExecutor
from tests.support.waiting import wait_until

CONTENT = CacheContent(5, 10, (), ("data",))


def test_every_node_is_asked_and_whoever_does_not_answer_is_left_out() -> None:
    caches, executor = Caches(), RecordingExecutor()

    def answer() -> None:
        wait_until(lambda: len(executor.of(AskedCache)) == 2, "the orders")
        number = executor.of(AskedCache)[0].number
        assert not caches.heard("stranger", number, CONTENT)
        assert not caches.heard("n1", number + 1, CONTENT)
        assert caches.heard("n1", number, CONTENT)

    thread = threading.Thread(target=answer)
    thread.start()
    assert caches.ask(executor, ["n1", "n2"], CacheAction.pin, "data", 1.0) == {"n1": CONTENT, "n2": None}
    thread.join(10)
    given = executor.of(AskedCache)
    assert {(each.node_id, each.action, each.bucket) for each in given} == {
        ("n1", CacheAction.pin, "data"),
        ("n2", CacheAction.pin, "data"),
    }
    assert not caches.heard("n2", given[0].number, CONTENT), "too late"


def test_without_nodes_nobody_is_waited_for() -> None:
    assert Caches().ask(RecordingExecutor(), [], CacheAction.tell, "", 60.0) == {}
