"""Points come in, are summed up once however often the server dies, and are read back over attempts and learners."""

import math
from array import array
from dataclasses import replace

import pytest

from runyard.core.metrics import NO_STEP, Series, Window
from runyard.engine import control, metrics, queries
from runyard.engine.bell import metric_topic
from runyard.engine.metrics import Choice
from runyard.engine.summing import Summing
from runyard.ports.metrics import MetricKey, Wanted
from runyard.ports.store import RunQuery
from runyard.ports.summaries import MetricSummary
from runyard.testing.memory_metrics import MemoryMetrics
from runyard.wire.points import encode
from tests.engine.yard import ACME, Yard


def a_series(name: str, values: list[float], steps: list[int] | None = None, group: str = "") -> Series:
    count = len(values)
    return Series(group, name, array("q", steps or range(count)), array("q", range(count)), array("d", values))


def block(*series: Series, notes: tuple[str, ...] = ()) -> bytes:
    return encode(series, {}, notes)


def only(yard: Yard, run: str) -> MetricSummary:
    ((_, summary),) = yard.world.store.metric_summaries([run])
    return summary


def test_summaries_tell_of_finite_values(yard: Yard) -> None:
    run = yard.running()
    key = MetricKey(run, 1)
    stream = block(a_series("loss", [math.nan, 3.0, math.inf], [NO_STEP, 1, 2])) + block(
        a_series("loss", [1.0, 5.0, math.nan], [3, NO_STEP, 4])
    )
    assert metrics.take(yard.world, key, 0, stream) == len(stream)
    assert only(yard, run) == MetricSummary("", "loss", 6, 2, 3.0, 5.0, None, 1.0, 3, 5.0, None)
    assert metric_topic(run) in yard.bell.rung


def test_a_metric_that_was_never_finite(yard: Yard) -> None:
    run = yard.running()
    metrics.take(yard.world, MetricKey(run, 1), 0, block(a_series("loss", [math.nan, -math.inf])))
    assert only(yard, run) == MetricSummary("", "loss", 2, 1)
    (view,) = metrics.summaries(yard.world, run)
    assert (view.last, view.best, view.points) == (None, None, 2)


def test_blocks_that_come_in_pieces_and_again_count_once(yard: Yard) -> None:
    run = yard.running()
    key = MetricKey(run, 1)
    stream = b"".join(block(a_series("loss", [float(n)], [n])) for n in range(20))
    offset = 0
    for size in (10, 1, 700, 300, 10_000):
        begin = max(0, offset - 50)
        offset = metrics.take(yard.world, key, begin, stream[begin : offset + size])
    assert offset == len(stream)
    assert (only(yard, run).points, only(yard, run).last, only(yard, run).lowest) == (20, 19.0, 0.0)
    assert not metrics.sum_up(yard.world, key)


def test_a_server_that_died_before_it_summed_up_does_so_when_it_next_hears_of_the_stream(yard: Yard) -> None:
    run = yard.running()
    key = MetricKey(run, 1)
    yard.world.metrics.append(key, 0, block(a_series("loss", [1.0]), notes=("A file was too large.",)))
    world = yard.restart()
    assert metrics.sum_up(world, key)
    assert only(yard, run).points == 1
    assert list(world.metrics.notes(run)) == ["A file was too large."]


def test_a_run_that_is_gone_takes_no_points(yard: Yard) -> None:
    key = MetricKey("training-a1B2c3D4e", 1)
    assert metrics.take(yard.world, key, 0, block(a_series("loss", [1.0]))) > 0
    assert list(yard.world.store.metric_summaries([key.run_id])) == []


def test_many_streams_are_taken_at_once(yard: Yard) -> None:
    first, second = yard.running(), yard.running()
    gone = MetricKey("training-a1B2c3D4e", 1)
    loss = [block(a_series("loss", [float(n)], [n])) for n in range(3)]
    stream = b"".join(loss)
    sizes = metrics.take_many(
        yard.world,
        [
            (MetricKey(first, 1), 0, loss[0]),
            (MetricKey(first, 1, 2), 0, loss[1][:-1]),
            (gone, 0, loss[0]),
            (MetricKey(second, 1), 7, loss[0]),
            (MetricKey(first, 1), len(loss[0]), stream[len(loss[0]) :]),
        ],
    )
    assert sizes == [len(loss[0]), len(loss[1]) - 1, len(loss[0]), 0, len(stream)]
    assert (only(yard, first).points, only(yard, first).last) == (3, 2.0)
    assert list(yard.world.store.metric_summaries([second, gone.run_id])) == []
    assert metric_topic(first) in yard.bell.rung
    metrics.take_many(
        yard.world, [(MetricKey(first, 1, 2), len(loss[1]) - 1, loss[1][-1:]), (MetricKey(second, 1), 0, stream)]
    )
    assert (only(yard, first).points, only(yard, second).points) == (4, 3)


def test_what_is_remembered_of_a_run_gives_way_to_what_the_store_has(yard: Yard) -> None:
    run = yard.running()
    key, world = MetricKey(run, 1), yard.world
    size = metrics.take(world, key, 0, block(a_series("loss", [1.0])))
    other = replace(world, summing=Summing())
    size = metrics.take(other, key, size, block(a_series("loss", [5.0])))
    metrics.take(world, key, size, block(a_series("loss", [3.0])))
    assert (only(yard, run).points, only(yard, run).highest, only(yard, run).last) == (3, 5.0, 3.0)


def two_attempts(yard: Yard) -> str:
    run = yard.running()
    for attempt, learner, first in ((2, 1, 10), (1, 1, 0), (1, 2, 100)):
        steps = list(range(first, first + 3))
        points = block(a_series("loss", [step / 1 for step in steps], steps), a_series("acc", [0.5], group="test"))
        metrics.take(yard.world, MetricKey(run, attempt, learner), 0, points)
    return run


def test_the_points_of_a_later_attempt_follow_and_learners_stand_apart(yard: Yard) -> None:
    run = yard.run(two_attempts(yard))
    whole = metrics.series(yard.world, run, Choice(Wanted(name="loss")))
    assert [(each.learner, list(each.steps)) for each in whole] == [(1, [0, 1, 2, 10, 11, 12]), (2, [100, 101, 102])]
    assert [
        (each.group, len(each)) for each in metrics.series(yard.world, run, Choice(Wanted(group="test", learner=1)))
    ] == [("test", 2)]
    after = metrics.series(yard.world, run, Choice(Wanted(name="loss", learner=1), Window(after=1)))
    assert [list(each.steps) for each in after] == [[2, 10, 11, 12]]
    thin = metrics.series(yard.world, run, Choice(Wanted(name="loss", learner=1), limit=2))
    assert [list(each.steps) for each in thin] == [[0, 12]]
    assert [each.attempt for each in metrics.pieces(yard.world, run, Choice(Wanted(name="loss", learner=1)))] == [1, 2]
    summaries = {each.name: each for each in metrics.summaries(yard.world, run.id)}
    assert (summaries["loss"].points, summaries["loss"].highest, summaries["loss"].best) == (9, 102.0, 0.0)


def test_a_follower_is_told_each_point_once(yard: Yard) -> None:
    run = yard.run(two_attempts(yard))
    told: metrics.Offsets = {}
    seen: list[float] = []
    more = True
    while more:
        found, told, more = metrics.news(yard.world, run, Choice(Wanted(name="loss")), told)
        seen += [value for series in found for value in series.values]
    assert seen == [0.0, 1.0, 2.0, 100.0, 101.0, 102.0, 10.0, 11.0, 12.0]
    size = yard.world.metrics.size(MetricKey(run.id, 2))
    metrics.take(yard.world, MetricKey(run.id, 2), size, block(a_series("loss", [7.0])))
    found, told, more = metrics.news(yard.world, run, Choice(), told)
    assert [list(each.values) for each in found] == [[7.0]]
    assert metrics.news(yard.world, run, Choice(), told) == ([], told, False)


def test_a_run_shows_its_metrics_and_a_list_the_few_that_tell_most(yard: Yard) -> None:
    run = yard.running()
    many = [a_series(f"metric_{n}", [n / 1]) for n in range(10)]
    metrics.take(yard.world, MetricKey(run, 1), 0, block(*many, a_series("loss", [2.0, 1.0], group="train")))
    shown = queries.show(yard.world, yard.run(run)).metrics
    assert len(shown) == 11
    assert (shown["train/loss"].last, shown["train/loss"].best_step) == (1.0, 1)
    (listed,), _ = queries.listing(yard.world, RunQuery(ACME.account_id))
    assert next(iter(listed.metrics)) == "train/loss"
    assert len(listed.metrics) == queries.METRICS_LISTED


def test_a_deleted_run_takes_its_points_along(yard: Yard) -> None:
    run = yard.finished()
    metrics.take(yard.world, MetricKey(run, 1), 0, block(a_series("loss", [1.0])))
    control.delete(yard.world, ACME.account_id, run, with_results=False)
    assert list(yard.world.metrics.streams(run)) == []


class Dying(MemoryMetrics):
    """Dies when it is read."""

    def read(self, *_: object, **__: object) -> None:  # type: ignore[override]  # it never answers
        raise OSError("the disk is gone")


def test_points_that_were_not_summed_up_are_not_acknowledged(yard: Yard) -> None:
    run = yard.running()
    with pytest.raises(OSError, match="gone"):
        metrics.take(replace(yard.world, metrics=Dying()), MetricKey(run, 1), 0, block(a_series("loss", [1.0])))
