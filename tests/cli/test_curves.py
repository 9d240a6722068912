"""Curves and numbers of metrics, and lines of points."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard.cli.curves import BLOCKS, curve, value_text
from runyard.cli.metrics import metrics_table
from runyard.cli.monitoring import lines_of
from runyard.cli.outcomes import main_metrics
from runyard.client.metric_records import Metrics, NewPoints, Series
from runyard.client.records import Run


@pytest.mark.parametrize(
    ("values", "width", "shown"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, "▁▂▃▄▅▆▇█"),
        ([0, 0, 7, 7], 2, "▁█"),
        ([3, 3, 3], 10, "▄▄▄"),
        ([5], 10, "▄"),
        ([1, math.nan, 2], 3, "▁ █"),
        ([math.nan, math.inf], 3, ""),
        ([], 3, ""),
        ([-1e308, 1e308], 2, "▁█"),
        ([1e308] * 10 + [0], 2, "█▁"),
    ],
)
def test_curves(values: list[float], width: int, shown: str) -> None:
    assert curve(values, width) == shown


@given(st.lists(st.floats(), max_size=50), st.integers(1, 30))
def test_a_curve_is_no_wider_than_asked_for(values: list[float], width: int) -> None:
    shown = curve(values, width)
    assert len(shown) <= width
    assert set(shown) <= {*BLOCKS, " "}


def test_numbers() -> None:
    assert [value_text(value) for value in (None, 0.981331, 1.2e-5, 300.0, 149999.0, math.inf)] == [
        "", "0.98133", "1.2e-05", "300", "149999", "inf",
    ]  # fmt: skip


def a_metric(name: str, group: str = "", points: int = 1, last: float | None = 1.0) -> dict[str, object]:
    return {"name": name, "group": group, "points": points, "last": last, "lowest": 0.0, "highest": last}


def test_a_table_of_one_run_has_neither_empty_groups_nor_the_run() -> None:
    raw = {
        "id": "training-1",
        "items": [a_metric("loss", last=None)],
        "series": [{"name": "loss", "group": "", "learner": 1, "steps": [], "times_ms": [], "values": ["NaN", 1, 2]}],
    }
    head, line = metrics_table([Metrics.of(raw)]).splitlines()
    assert head.split() == ["NAME", "POINTS", "LAST", "STEP", "LOWEST", "HIGHEST", "CURVE"]
    assert line.split() == ["loss", "1", "0", "▁█"]


def test_points_of_a_step_share_a_line_in_the_order_they_were_measured() -> None:
    def series(name: str, steps: list[int | None], group: str = "", learner: int = 1) -> Series:
        times = tuple(100 + (step or 0) for step in steps)
        return Series(group, name, learner, tuple(steps), times, tuple(float(step or 9) for step in steps))

    points = NewPoints("r", (series("a", [1, 2, None]), series("b", [1, 3]), series("a", [2], "g", 2)))
    assert list(lines_of(points)) == [
        "a=9",
        "step 1  a=1  b=1",
        "step 2  a=2",
        "step 2  g  learner 2  a=2",
        "step 3  b=3",
    ]


def a_run(number: int, *metrics: dict[str, object]) -> Run:
    named = {f"{each['group']}/{each['name']}".lstrip("/"): each for each in metrics}
    return Run.of({"id": f"r{number}", "metrics": named})


def test_the_metrics_of_a_sweep_are_those_that_most_runs_have() -> None:
    runs = [a_run(n, a_metric("loss", "train"), a_metric("accuracy", "val"), a_metric("lr")) for n in range(3)]
    runs.append(a_run(3, a_metric("loss", "train")))
    runs.append(a_run(4))
    told = main_metrics(runs)
    assert [heading for heading, _ in told] == ["val/accuracy", "train/loss"]
    assert sorted(told[0][1]) == ["r0", "r1", "r2"]
    assert main_metrics([a_run(1), a_run(2)]) == []


def test_groups_that_are_named_after_the_time_do_not_count() -> None:
    runs = [
        a_run(n, a_metric("loss", f"runs/{n}", points=5), a_metric("loss", f"runs/{n}/x", last=7)) for n in range(3)
    ]
    ((heading, metrics),) = main_metrics(runs)
    assert heading == "loss"
    assert {run: metric.last for run, metric in metrics.items()} == {"r0": 1.0, "r1": 1.0, "r2": 1.0}
