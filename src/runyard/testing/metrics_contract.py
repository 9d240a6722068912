"""The contract of the store of points, as tests: subclass :class:`MetricStoreContract` and give it a ``metrics``
fixture."""

from __future__ import annotations

import math
from array import array

import pytest

from runyard.core.metrics import NO_STEP, Series, Window
from runyard.ports.metrics import MetricKey, MetricStore, Piece, Wanted
from runyard.wire.points import encode

KEY = MetricKey("training-a1B2c3D4e", 1)
ALL = 1 << 40


def a_series(group: str, name: str, first: int, count: int) -> Series:
    """``count`` points from a step on, their values halves of the steps."""
    steps = array("q", range(first, first + count))
    return Series(group, name, steps, array("q", (1000 + step for step in steps)), array("d", (s / 2 for s in steps)))


def blocks(count: int) -> list[bytes]:
    """Blocks of a stream: ``train/loss`` in each, ``test/loss`` in every third."""
    return [
        encode(
            [a_series("train", "loss", 10 * n, 10), *([a_series("test", "loss", n, 1)] if n % 3 == 0 else [])],
            {"state/metrics.jsonl": (7, n)},
        )
        for n in range(count)
    ]


def values(piece: Piece, group: str = "train") -> list[float]:
    """The values of one series of a piece."""
    return [value for series in piece.series if series.group == group for value in series.values]


class MetricStoreContract:
    """All that any store of points must do."""

    @pytest.fixture
    def metrics(self) -> MetricStore:
        """An empty store."""
        raise NotImplementedError("a subclass says which store is tested")

    def test_what_is_appended_in_any_pieces_is_read_once(self, metrics: MetricStore) -> None:
        stream = b"".join(blocks(30))
        offset = 0
        for size in (1, 3, 5000, 7, 100_000):
            begin = max(0, offset - 2)  # what came before comes again
            offset = metrics.append(KEY, begin, stream[begin : offset + size])
        assert offset == metrics.size(KEY) == len(stream)
        piece = metrics.read(KEY, 0, ALL)
        assert values(piece) == [n / 2 for n in range(300)]
        assert values(piece, "test") == [n / 2 for n in range(0, 30, 3)]
        assert piece.after == len(stream)

    def test_a_gap_writes_nothing(self, metrics: MetricStore) -> None:
        assert metrics.append(KEY, 5, b"x") == 0
        assert metrics.size(KEY) == 0
        assert metrics.read(KEY, 0, ALL) == Piece((), (), 0)

    def test_half_a_block_is_left_for_later(self, metrics: MetricStore) -> None:
        first, second = blocks(2)
        metrics.append(KEY, 0, first + second[:-1])
        piece = metrics.read(KEY, 0, ALL)
        assert (len(values(piece)), piece.after) == (10, len(first))
        metrics.append(KEY, len(first) + len(second) - 1, second[-1:])
        piece = metrics.read(KEY, piece.after, ALL)
        assert (values(piece), piece.after) == ([n / 2 for n in range(10, 20)], len(first + second))

    def test_a_limit_ends_a_piece_behind_a_block(self, metrics: MetricStore) -> None:
        parts = blocks(40)
        metrics.append(KEY, 0, b"".join(parts))
        got: list[float] = []
        after = 0
        while (piece := metrics.read(KEY, after, 1)).after > after:
            got += values(piece)
            after = piece.after
        assert got == [n / 2 for n in range(400)]

    def test_names_and_groups_are_chosen(self, metrics: MetricStore) -> None:
        metrics.append(KEY, 0, b"".join(blocks(3)) + encode([a_series("train", "lr", 0, 2)], {}))

        def found(wanted: Wanted) -> list[tuple[str, str]]:
            return [(series.group, series.name) for series in metrics.read(KEY, 0, ALL, wanted).series]

        assert found(Wanted()) == [("train", "loss"), ("test", "loss"), ("train", "lr")]
        assert found(Wanted(name="loss")) == [("train", "loss"), ("test", "loss")]
        assert found(Wanted(group="train")) == [("train", "loss"), ("train", "lr")]
        assert found(Wanted(name="loss", group="test")) == [("test", "loss")]
        assert found(Wanted(name="none")) == []

    def test_every_value_and_every_step_comes_back(self, metrics: MetricStore) -> None:
        odd = [math.inf, -math.inf, 5e-324, -0.0, 1.7976931348623157e308, math.nan]
        steps = [NO_STEP, 0, -1, 2**62, NO_STEP, 5]
        series = Series("", "ñ/\n", array("q", steps), array("q", range(6)), array("d", odd))
        metrics.append(KEY, 0, encode([series], {}, ("A sentence.",)))
        piece = metrics.read(KEY, 0, ALL)
        (back,) = piece.series
        assert (back.group, back.name, list(back.steps), list(back.times)) == ("", "ñ/\n", steps, list(range(6)))
        assert list(map(repr, back.values)) == list(map(repr, odd))
        assert piece.notes == ("A sentence.",)

    def test_bytes_that_are_no_block_are_passed_over(self, metrics: MetricStore) -> None:
        first, second, third = blocks(3)
        spoilt = second[:-3] + bytes(3)
        metrics.append(KEY, 0, first + b"RYM1 noise" + spoilt + third + b"noise")
        piece = metrics.read(KEY, 0, ALL)
        assert values(piece) == [n / 2 for n in (*range(10), *range(20, 30))]

    def test_a_chart_of_few_points_has_all_of_them(self, metrics: MetricStore) -> None:
        metrics.append(KEY, 0, b"".join(blocks(9)))
        train, test = metrics.outlines(KEY, Wanted(), Window(), 1000)
        assert (train.series.group, list(train.places), train.total) == ("train", list(range(90)), 90)
        assert list(test.series.steps) == [0, 3, 6]
        (part,) = metrics.outlines(KEY, Wanted(group="train"), Window(after=4, until=7), 1000)
        assert (list(part.series.steps), part.total) == ([5, 6, 7], 3)
        assert list(metrics.outlines(KEY, Wanted(), Window(after=89), 1000)) == []
        assert list(metrics.outlines(MetricKey("training-a1B2c3D4f", 1), Wanted(), Window(), 10)) == []

    def test_streams_are_told_and_deleted_by_run(self, metrics: MetricStore) -> None:
        (block,) = blocks(1)
        other = MetricKey("training-a1B2c3D4f", 1)
        for key in (MetricKey(KEY.run_id, 2, 11), MetricKey(KEY.run_id, 2, 2), KEY, MetricKey(KEY.run_id, 10), other):
            metrics.append(key, 0, block)
        told = [(key.attempt, key.learner) for key in metrics.streams(KEY.run_id)]
        assert told == [(1, 1), (2, 2), (2, 11), (10, 1)]
        (series, *_) = metrics.read(MetricKey(KEY.run_id, 2, 11), 0, ALL).series
        assert (series.attempt, series.learner) == (2, 11)
        metrics.note(KEY.run_id, ["One.", "Two.", "One."])
        metrics.note(KEY.run_id, ["Two.", "Three."])
        assert list(metrics.notes(KEY.run_id)) == ["One.", "Two.", "Three."]
        metrics.delete(KEY.run_id)
        assert list(metrics.notes(KEY.run_id)) == []
        assert list(metrics.streams(KEY.run_id)) == []
        assert metrics.size(KEY) == 0
        assert list(metrics.streams(other.run_id)) == [other]
