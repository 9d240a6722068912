"""The scheduler's page: a part that is taken again takes the place of what was there, and nothing else."""

from __future__ import annotations

from bench.simulator import DAYS, LARGE, PAGE, TIMES, put, times_of


def test_a_part_takes_the_place_of_the_part_before_in_its_order() -> None:
    page = "# Title\n\nWords.\n\n## 512 GPUs\n\ntable\n\n## How long a plan takes: old\n\n1\n"
    assert put(page, []) == page
    more = put(page, [f"{LARGE}\n\nrow\n", f"{DAYS}\n\n0.5 %\n", f"{TIMES}: new\n\n2\n"])
    assert [line for line in more.splitlines() if line.startswith("#")] == [
        *("# Title", "## 512 GPUs", DAYS, f"{TIMES}: new", LARGE)
    ]
    assert "old" not in more
    assert put(more, ["## 256 GPUs\n\nother\n"]) == more.replace("512", "256").replace("table", "other")


def test_the_page_is_one_that_a_part_can_be_put_into() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert put(page, []) == page
    taken = times_of([("a cycle", 51.0, 50.0, 52.0)], (1.2, 2.6))
    assert "| a cycle | 51 | 50 | 52 | 50 |" in taken
    assert "a load of 1 to 3 on" in taken
    assert put(page, [taken]).count(TIMES) == 1
