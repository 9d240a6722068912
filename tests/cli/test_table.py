"""Tables, pairs and amounts."""

from datetime import timedelta

import click
import pytest

from runyard.cli.amounts import number_or
from runyard.cli.table import cell_width, pairs, table
from runyard.cli.times import age, instant, money, now, since, span
from runyard.client.errors import Misuse


def test_columns_are_as_wide_as_they_need() -> None:
    assert table(("A", "LONG"), [("1", "x"), ("22", "yy")], flexible=1, width=80) == "A   LONG\n1   x\n22  yy"


def test_the_flexible_column_is_cut_to_the_width() -> None:
    text = table(("ID", "WHY", "AGE"), [("abc", "a very long reason indeed", "3 s")], flexible=1, width=24)
    assert text.splitlines()[1] == "abc  a very long r…  3 s"
    assert all(cell_width(line) <= 24 for line in text.splitlines())


def test_wide_characters_take_two_cells() -> None:
    lines = table(("A", "B"), [("日本", "x"), ("ab", "y")], flexible=0, width=80).splitlines()
    assert lines[1:] == ["日本  x", "ab    y"]
    assert table(("A",), [("日本語日本語",)], flexible=0, width=9).splitlines()[1] == "日本語日…"


def test_a_line_break_in_a_cell_does_not_break_the_table() -> None:
    assert len(table(("A", "B"), [("x\ny", "z")], flexible=0, width=80).splitlines()) == 2


def test_pairs_leave_out_what_is_empty() -> None:
    assert pairs([("a", "1"), ("long", "2\n3"), ("none", "")]) == "a     1\nlong  2\n      3"
    assert pairs([]) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0 ms"),
        (0.85, "850 ms"),
        (12.4, "12 s"),
        (60, "1 m"),
        (200, "3 m 20 s"),
        (7500, "2 h 5 m"),
        (349200, "4 d 1 h"),
        (-5, "0 ms"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_ages() -> None:
    assert age(now() - timedelta(minutes=3, seconds=1)) == "3 m 1 s"
    assert age(None) == ""


@pytest.mark.parametrize(
    ("text", "told"), [("90", "90"), ("10m", "600"), ("1.5h", "5400"), ("2026-01-31", "2026-01-31")]
)
def test_since(text: str, told: str) -> None:
    assert since(text) == told


def test_since_refuses_what_is_no_time() -> None:
    with pytest.raises(Misuse, match="no time"):
        since("soon")


def test_instants_are_absolute() -> None:
    assert instant("2026-01-31T12:00:00Z") == "2026-01-31T12:00:00Z"
    assert instant("1h") < now().isoformat()


@pytest.mark.parametrize(
    ("cost", "text"), [("0.012300", "0.0123"), ("0.000000", ""), ("12.000000", "12"), ("", ""), ("10", "10")]
)
def test_money(cost: str, text: str) -> None:
    assert money(cost) == text


@pytest.mark.parametrize(
    ("said", "meant"), [("7", 7.0), ("7d", 7.0), ("0.5", 0.5), ("forever", 0.0), ("default", None)]
)
def test_a_number_or_a_word_that_stands_for_one(said: str, meant: float | None) -> None:
    assert number_or("--logs", said, {"forever": 0.0, "default": None}, "a number of days", "d") == meant


@pytest.mark.parametrize("said", ["", "d", "foreverd", "7h", "seven"])
def test_what_is_neither_a_number_nor_a_word_is_refused_with_what_would_do(said: str) -> None:
    with pytest.raises(click.BadParameter) as told:
        number_or("--logs", said, {"forever": 0.0, "default": None}, "a number of days", "d")
    assert told.value.message == f"{said!r} is neither a number of days, forever nor default."
    assert told.value.param_hint == "--logs"
    with pytest.raises(click.BadParameter, match="is neither a number nor none\\."):
        number_or("--weight", said, {"none": None}, "a number")
