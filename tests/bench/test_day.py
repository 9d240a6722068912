"""The simulated day: a quarter of an hour of it, and what its verdict sees."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest

from bench.soak.day import BOUNDS, growths, lived, summary, table
from bench.soak.holding import Held, lengths
from runyard.engine.world import Pace

FLAT = [
    Held(float(hour), hour * 400, 120.0 + hour % 2, 160_000 + hour % 3, 270 + hour % 3, 7, {".a": 30 + hour % 5}, {})
    for hour in range(1, 25)
]


def test_a_quarter_of_an_hour_is_lived_and_looked_at(tmp_path: Path) -> None:
    looks: list[Held] = []
    done = lived(0.25, tmp_path / "server", looks=2, told=looks.append)
    assert [each.hour for each in looks] == [0.125, 0.25]
    assert done.runs >= looks[-1].rows["runs"] == sum(done.states.values()) > 30  # some were deleted
    assert done.states.get("completed", 0) > 5
    assert done.facts > done.runs
    assert done.requests > 50
    assert {".world.specs._specs", ".world.ready._ready[]", ".doorkeeper._known"} <= set(looks[-1].lengths)
    assert looks[-1].objects > 10_000
    assert f"{done.runs} runs" in summary(done)
    assert len(table(looks).splitlines()) > 8


AUDIT = "audit"
"""Written by a thread of its own, within 50 ms of the real clock."""


def test_two_days_of_one_seed_are_the_same(tmp_path: Path) -> None:
    told: list[list[tuple[int, dict[str, int]]]] = []
    for name in ("one", "other"):
        looks: list[Held] = []
        lived(0.1, tmp_path / name, seed=3, looks=1, told=looks.append)
        told.append(
            [(each.runs, {table: count for table, count in each.rows.items() if table != AUDIT}) for each in looks]
        )
    assert told[0] == told[1]


def test_a_flat_day_is_flat() -> None:
    assert growths(FLAT) == []


@pytest.mark.parametrize(
    ("what", "step", "words"),
    [
        ("objects", 300, "objects: 1"),
        ("rss_mb", 0.5, "resident memory: 1"),
        ("descriptors", 1, "descriptors: 2"),
        ("threads", 1, "threads: "),
    ],
)
def test_what_grows_by_a_little_each_hour_is_seen(what: str, step: float, words: str) -> None:
    looks = [replace(each, **{what: getattr(each, what) + step * each.hour}) for each in FLAT]
    (found,) = growths(looks)
    assert found.startswith(words)


def test_a_container_that_grows_is_named_with_its_course_unless_it_is_below_its_bound() -> None:
    path, most = ".world.specs._specs", BOUNDS[".world.specs._specs"]
    grows = [
        replace(each, lengths={".a": 30, ".b": int(10 * each.hour), path: int(most * each.hour / 24)}) for each in FLAT
    ]
    assert growths(grows) == [".b: " + " ".join(str(10 * hour) for hour in range(1, 25))]
    beyond = [replace(each, lengths={path: int(most * each.hour / 6)}) for each in FLAT]
    assert [each.partition(":")[0] for each in growths(beyond)] == [path]


def test_lengths_are_told_by_path() -> None:
    pace = Pace()
    pace.note(1, 5)
    pace.note(2, 5)
    assert lengths(pace) == {"._means": 2}
    assert lengths({"a": [1, 2], "b": [3], "c": OrderedDict(d=[4])}) == {".": 3, "[]": 4, "[][]": 1}
