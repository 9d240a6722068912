"""Charts of long streams: drawn from the index, against every point."""

import math
import os
import random
from array import array
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runyard.adapters.telemetry.index import indexed, segments
from runyard.adapters.telemetry.metrics import MetricFiles
from runyard.core.metrics import NO_STEP, Outline, Series, Window
from runyard.core.pyramid import level_for, points_of
from runyard.ports.metrics import Wanted
from runyard.testing.metrics_contract import ALL, KEY
from runyard.wire.points import encode

ODD = (math.nan, math.inf, -math.inf)


def a_stream(seed: int, sizes: list[int], *, disorder: bool) -> list[bytes]:
    """Blocks of so many points of ``loss``, now and then with one of ``acc`` in front; some values are not finite, some
    points have no step, and with ``disorder`` steps come in any order."""
    chance = random.Random(seed)
    made: list[bytes] = []
    step = 0
    for size in sizes:
        steps = array("q", range(step, step + size))
        step += size
        if disorder:
            steps = array("q", (chance.choice((each, chance.randrange(step), NO_STEP)) for each in steps))
        values = array("d", (chance.choice(ODD) if chance.random() < 0.1 else chance.gauss(0, 1) for _ in steps))
        loss = Series("train", "loss", steps, array("q", (chance.randrange(10**6) for _ in steps)), values)
        acc = Series("", "acc", array("q", [step]), array("q", [step]), array("d", [float(step)]))
        made.append(encode([acc, loss] if chance.random() < 0.3 else [loss], {}))
    return made


def points(series: Series) -> list[tuple[int, int, str]]:
    return [(s, t, repr(v)) for s, t, v in zip(series.steps, series.times, series.values, strict=True)]


def check(outline: Outline, whole: Series, stretches: int) -> None:
    """That an outline is one of a series of which every point is known."""
    places = list(outline.places)
    assert outline.total == len(whole)
    assert places == sorted(set(places))
    assert (places[0], places[-1]) == (0, len(whole) - 1)
    assert points(outline.series) == points(whole.taken(places))
    finite = [value for value in whole.values if math.isfinite(value)]
    if finite:
        assert {min(finite), max(finite)} <= set(outline.series.values)
    drawn = outline.thinned(2 * stretches)
    assert len(drawn) <= max(2, 2 * stretches)
    level = level_for(len(whole), stretches)
    if level is None:
        assert len(places) == len(whole)
        return
    reach = points_of(level)  # between two points of which nothing is drawn lies less than two cells
    assert max(b - a for a, b in pairwise(places)) <= 2 * reach


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=25),
    segment=st.integers(500, 40_000),
    stretches=st.integers(1, 30),
    disorder=st.booleans(),
    window=st.tuples(st.none() | st.integers(-1, 6000), st.none() | st.integers(0, 8000)),
)
def test_an_outline_is_that_of_all_points(
    seed: int,
    sizes: list[int],
    segment: int,
    stretches: int,
    disorder: bool,
    window: tuple[int | None, int | None],
) -> None:
    with TemporaryDirectory() as folder:
        metrics = MetricFiles(Path(folder), segment)
        offset = 0
        for block in a_stream(seed, sizes, disorder=disorder):
            offset = metrics.append(KEY, offset, block)
        among = Window(*window)
        whole = {each.name: among.cut(each) for each in metrics.read(KEY, 0, ALL).series}
        found = {each.series.name: each for each in metrics.outlines(KEY, Wanted(), among, stretches)}
        assert found.keys() == {name for name, series in whole.items() if len(series)}
        for name, outline in found.items():
            check(outline, whole[name], stretches)
        (one,) = metrics.outlines(KEY, Wanted(name="loss"), among, stretches) if "loss" in found else (None,)
        assert one is None or points(one.series) == points(found["loss"].series)


def filled(folder: Path, sizes: list[int]) -> tuple[MetricFiles, Path]:
    metrics, offset = MetricFiles(folder, 4000), 0
    for block in a_stream(1, sizes, disorder=False):
        offset = metrics.append(KEY, offset, block)
    return metrics, folder / KEY.run_id / "1" / "1" / "metrics.index"


def drawn(metrics: MetricFiles) -> list[tuple[int, int, str]]:
    (found,) = metrics.outlines(KEY, Wanted(name="loss"), Window(), 5)
    return points(found.series)


def test_a_short_stream_has_no_index(tmp_path: Path) -> None:
    metrics, index = filled(tmp_path, [10] * 5)
    assert not index.exists()
    assert len(drawn(metrics)) == 50


@pytest.mark.parametrize("cut", [1, 30, 700, 2000])
def test_an_index_that_a_crash_broke_is_mended(tmp_path: Path, cut: int) -> None:
    metrics, index = filled(tmp_path, [100] * 60)
    expected = drawn(metrics)
    content = index.read_bytes()
    index.write_bytes(content[:-cut])
    assert drawn(metrics)[0] == expected[0]
    size = metrics.size(KEY)
    assert metrics.append(KEY, size, a_stream(1, [100], disorder=False)[0]) > size
    with index.open("rb") as file:
        told = list(segments(file.fileno(), metrics.size(KEY)))
        assert indexed(file.fileno()) == told[-1].end
        assert metrics.size(KEY) - told[-1].end < 4000
    assert [each.begin for each in told] == [0, *(each.end for each in told[:-1])]


def test_an_index_with_zeros_in_its_last_segment_is_mended(tmp_path: Path) -> None:
    metrics, index = filled(tmp_path, [100] * 60)
    with index.open("rb") as file:
        last = list(segments(file.fileno(), metrics.size(KEY)))[-1]
    text = bytearray(index.read_bytes())
    text[-300:-200] = bytes(100)
    index.write_bytes(text)
    metrics.append(KEY, metrics.size(KEY), b"".join(a_stream(2, [200, 200], disorder=False)))
    (found,) = metrics.outlines(KEY, Wanted(name="loss"), Window(), 5)
    whole = next(each for each in metrics.read(KEY, 0, ALL).series if each.name == "loss")
    check(found, whole, 5)
    with index.open("rb") as file:
        assert list(segments(file.fileno(), metrics.size(KEY)))[-1].end > last.end


def test_an_index_without_its_file_or_of_more_than_there_is_is_not_believed(tmp_path: Path) -> None:
    metrics, index = filled(tmp_path, [100] * 60)
    stream = index.with_name("metrics")
    os.truncate(stream, 10_000)
    (found,) = metrics.outlines(KEY, Wanted(name="loss"), Window(), 5)
    check(found, next(each for each in metrics.read(KEY, 0, ALL).series if each.name == "loss"), 5)
    index.unlink()
    (found,) = metrics.outlines(KEY, Wanted(name="loss"), Window(), 5)
    check(found, next(each for each in metrics.read(KEY, 0, ALL).series if each.name == "loss"), 5)
