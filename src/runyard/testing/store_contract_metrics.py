"""The store's contract: summaries of metrics."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from runyard.ports.store import Store
from runyard.ports.summaries import MetricSummary, Taking
from runyard.testing.builders import NOW, a_run_id
from runyard.testing.lives import accept, finish

LOSS = MetricSummary("train", "loss", 3, NOW, 2.5, 0.1, 30, 0.1, 30, 2.5, 1)
BARE = MetricSummary("", "note", 1, NOW + 1)
"""A metric whose only value was NaN, without a step."""


def put(
    store: Store,
    run_id: str,
    attempt: int,
    learner: int,
    before: int,
    after: int,
    summaries: Sequence[MetricSummary],
) -> bool:
    """Take in one stream of one run."""
    (done,) = store.put_metrics([Taking(run_id, [(attempt, learner, before, after)], summaries)])
    return done


class SummaryContract:
    """What the points of metrics come to."""

    def test_summaries_are_put_and_replaced(self, store: Store) -> None:
        run = accept(store)[0]
        assert store.metric_folded(run.id, 1, 1) == 0
        assert put(store, run.id, 1, 1, 0, 500, [LOSS, BARE])
        assert store.metric_folded(run.id, 1, 1) == 500
        assert list(store.metric_summaries([run.id])) == [(run.id, BARE), (run.id, LOSS)]
        later = MetricSummary("train", "loss", 4, NOW + 9, 2.5, 1e-300, None, 1e-300, None, 2.5, -(2**62))
        assert put(store, run.id, 1, 1, 500, 700, [later])
        assert list(store.metric_summaries([run.id])) == [(run.id, BARE), (run.id, later)]

    def test_a_stream_is_taken_in_from_where_it_was(self, store: Store) -> None:
        run = accept(store)[0]
        assert put(store, run.id, 1, 1, 0, 10, [LOSS])
        assert not put(store, run.id, 1, 1, 0, 10, [BARE])
        assert not put(store, run.id, 1, 1, 11, 12, [BARE])
        assert not put(store, run.id, 1, 2, 1, 12, [BARE])
        assert list(store.metric_summaries([run.id])) == [(run.id, LOSS)]
        assert put(store, run.id, 1, 2, 0, 7, [])
        assert put(store, run.id, 2, 1, 0, 8, [])
        assert [store.metric_folded(run.id, *each) for each in ((1, 1), (1, 2), (2, 1), (2, 2))] == [10, 7, 8, 0]

    def test_of_several_who_take_in_the_same_one_does(self, store: Store) -> None:
        run = accept(store)[0]
        with ThreadPoolExecutor(4) as pool:
            tries = [pool.submit(put, store, run.id, 1, 1, 0, 10, [LOSS]) for _ in range(8)]
        assert sum(each.result() for each in tries) == 1

    def test_summaries_of_several_runs_come_in_the_order_asked_for(self, store: Store) -> None:
        first, second, third = accept(store, 3)
        for run in (first, second):
            put(store, run.id, 1, 1, 0, 10, [LOSS, BARE])
        found = store.metric_summaries([second.id, third.id, first.id, "training-none"])
        assert [run_id for run_id, _ in found] == [second.id, second.id, first.id, first.id]
        assert list(store.metric_summaries([])) == []

    def test_several_runs_are_taken_in_at_once_and_each_alone(self, store: Store) -> None:
        first, second, third = accept(store, 3)
        assert put(store, second.id, 1, 1, 0, 10, [BARE])
        done = store.put_metrics(
            [
                Taking(first.id, [(1, 1, 0, 5), (1, 2, 0, 6)], [LOSS]),
                Taking(second.id, [(1, 2, 0, 4), (1, 1, 9, 12)], [LOSS]),
                Taking(third.id, [(1, 1, 0, 7)], [LOSS, BARE]),
                Taking("training-none", [(1, 1, 0, 7)], [LOSS]),
            ]
        )
        assert list(done) == [True, False, True, False]
        assert [each for _, each in store.metric_summaries([first.id, second.id, third.id])] == [LOSS, BARE, BARE, LOSS]
        assert [store.metric_folded(first.id, 1, learner) for learner in (1, 2)] == [5, 6]
        assert [store.metric_folded(second.id, 1, learner) for learner in (1, 2)] == [10, 0]
        assert store.put_metrics([]) == []

    def test_they_go_with_their_run(self, store: Store) -> None:
        run = accept(store)[0]
        put(store, run.id, 1, 1, 0, 10, [LOSS])
        finish(store, run)
        assert store.delete_run(run.id)
        assert list(store.metric_summaries([run.id])) == []
        assert store.metric_folded(run.id, 1, 1) == 0
        assert not put(store, run.id, 1, 1, 0, 10, [LOSS])
        assert not put(store, a_run_id(77), 1, 1, 0, 10, [LOSS])
