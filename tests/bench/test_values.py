"""What the bench makes of numbers: targets, rows of other benches, intervals, plots, the page."""

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench import page
from bench.figures import Figures, Taken
from bench.measures.long_run import interval
from bench.measures.short_runs import Training
from bench.peers.measure import Found
from bench.plots import Bar, plot
from bench.processes import Process, spent
from bench.values import Row, Untrue, check, from_document, meets, number, percentile, row


@pytest.mark.parametrize(
    ("value", "target", "met"),
    [
        (25.0, "<= 25", True),
        (25.1, "<= 25", False),
        (20_000.0, ">= 20,000", True),
        (19_999.0, ">= 20,000", False),
        (1.0, "< 1", False),
        (1.0, "", None),
        (None, "<= 1", None),
    ],
)
def test_whether_a_target_is_met(value: float | None, target: str, met: bool | None) -> None:
    assert meets(value, target) is met


def test_a_row_tells_the_median_of_its_tries_and_the_ratio_to_its_yardstick() -> None:
    found = row("a to b", "ms", [3.0, 1.0, 10.0], "<= 4", yardstick=2.0)
    assert (found.ours, found.min, found.max, found.n, found.ratio, found.met) == (3.0, 1.0, 10.0, 3, 1.5, True)


def test_a_void_row_has_missed_its_target_and_says_why() -> None:
    found = row("a to b", "ms", [3.0], "<= 4", note="quiet", void="1 of 1 runs were not started warm")
    assert (found.met, found.note) == (False, "quiet; 1 of 1 runs were not started warm")


def test_rows_of_other_benches_are_judged_anew() -> None:
    upwards = from_document({"measure": "m", "ours": 5, "unit": "points/s", "target": 4})
    downwards = from_document({"measure": "m", "ours": 5, "unit": "ms", "target": "<= 4", "met": True})
    assert (upwards.target, upwards.met) == (">= 4", True)
    assert downwards.met is False


def test_a_check_that_fails_says_so() -> None:
    check(True, "never said")
    with pytest.raises(Untrue, match="3 of 4"):
        check(False, "3 of 4 runs completed")


def test_percentiles_are_of_the_nearest_rank() -> None:
    values = [float(each) for each in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([7.0], 0.99)) == (50.0, 99.0, 7.0)


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (1234.5, "1,234"), (0.01234, "0.0123"), (12.0, "12"), (0.0, "0"), (100.0, "100")]
)
def test_figures_for_people(value: float | None, text: str) -> None:
    assert number(value) == text


def test_the_interval_is_students() -> None:
    middle, half = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert middle == 3.0
    assert math.isclose(half, 2.776 * math.sqrt(2.5) / math.sqrt(5))


def test_the_ratio_to_the_ideal_is_of_two_slots() -> None:
    assert Training(3.0, (1.0, 1.0, 2.0), ("d",) * 3).ratio == 1.5


def test_cpu_of_what_came_and_went_counts_for_who_reaped_it() -> None:
    before = {1: Process(1, 0, 1.0, 0.5, "runyard.node"), 2: Process(2, 1, 0.2, 0.0, "python train.py")}
    after = {1: Process(1, 0, 1.5, 1.0, "runyard.node")}
    assert spent(before, after) == pytest.approx({"node": 0.5, "ended children of node": 0.3})


def test_a_plot_is_well_formed_and_names_its_bars() -> None:
    svg = plot("Title <a>", "ms", [Bar("ours & co", 2.0, True, 1.0, 3.0), Bar("theirs", 900.0)], 25.0)
    texts = [each.text for each in ElementTree.fromstring(svg).iter() if each.text and each.text.strip()]
    assert "ours & co" in texts
    assert "target 25" in texts


def figures() -> Figures:
    begin = "accepted POST to the program's first line, idle"
    rows = [row(f"{begin}: warm", "ms", [20.0, 30.0], "<= 25"), row(f"{begin}: exec", "ms", [40.0], "<= 35")]
    made = Figures(machine={"kernel": "6"})
    made.add(Taken("latency", rows, "", 0.1, 0.2, 3.0, "2026-01-31"))
    made.add(Taken("bulk", [], "1 of 2 runs did not complete", 0.1, 0.2, 3.0, "2026-01-31"))
    made.add_peer("HyperQueue", Found({"first_line": 15.6}))
    return made


def test_figures_come_back_from_their_file(tmp_path: Path) -> None:
    figures().write(tmp_path / "figures.json")
    assert Figures.read(tmp_path / "figures.json").document() == figures().document()
    assert Figures.read(tmp_path / "missing.json").document() == Figures().document()


def test_the_page_tells_what_is_missed_and_what_failed() -> None:
    told = page.text(figures(), draw=False)
    assert "- accepted POST to the program's first line, idle: exec: 40 ms, target <= 35" in told
    assert "`bulk` failed: 1 of 2 runs did not complete" in told
    assert "HyperQueue 15.6" in told
    assert "`torch` has not been taken" in told


def test_a_row_without_a_figure_is_told_as_such() -> None:
    assert "| m | **-** | <= 1 |" in page.line(Row("m", "ms", None, "<= 1"))
