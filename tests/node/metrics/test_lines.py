"""Lines of the recorder, of evaluation-metrics.txt, and of logs that regular expressions are tried on."""

import json
import math
from typing import Any

import pytest

from runyard.core.metrics import NO_STEP
from runyard.manifest.metrics import expand_macros
from runyard.node.metrics.gathering import MOST_SERIES, Gathering, clean
from runyard.node.metrics.lines import LONGEST, Evaluations, Recorded
from runyard.node.metrics.regexes import Expressions

NOW = 1_700_000_000_000
Point = tuple[str, str, int | None, int, float]


def points(gathering: Gathering) -> tuple[list[Point], list[str]]:
    series, notes = gathering.take()
    found: list[Point] = [
        (each.group, each.name, None if step == NO_STEP else step, at, value)
        for each in series
        for step, at, value in zip(each.steps, each.times, each.values, strict=True)
    ]
    return found, notes


def test_lines_of_the_recorder_as_they_are_finished() -> None:
    gathering = Gathering()
    lines = Recorded("the file", gathering)
    text = b'{"s":1,"g":"a","t":5,"v":{"x":0.5,"y":2}}\n{"t":6,"v":{"x":NaN,"z":-Infinity}}\n{"t":7,"v":{"x":1'
    end = lines.take(text, last=False)
    assert text[end:] == b'{"t":7,"v":{"x":1'
    found, notes = points(gathering)
    assert found[:2] == [("a", "x", 1, 5, 0.5), ("a", "y", 1, 5, 2.0)]
    assert math.isnan(found[2][4])
    assert (found[3], notes) == (("", "z", None, 6, -math.inf), [])
    assert lines.take(b'{"t":7,"v":{"x":1}}', last=True) == 19
    assert points(gathering)[0] == [("", "x", None, 7, 1.0)]


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b"null", b'{"v":{"x":"y"}}', b"\xff\xfe", b'{"v":1}', b"{}", b"[" * 5000]
)
def test_lines_that_are_not_as_they_should_be_are_said_once(line: bytes) -> None:
    gathering = Gathering()
    text = line + b"\n" + line + b'\n{"v":{"x":1}}\n'
    assert Recorded("the file", gathering).take(text, last=False) == len(text)
    found, notes = points(gathering)
    assert len(found) == 1
    assert len(notes) == 1
    assert notes[0].startswith("A line of the file is not as it should be")


def test_a_line_without_end_is_passed_over() -> None:
    gathering = Gathering()
    assert Recorded("f", gathering).take(b"x" * LONGEST, last=False) == LONGEST
    assert "longer than" in points(gathering)[1][0]


def evaluated(*lines: Any, prefix: str = "") -> tuple[list[Point], list[str]]:
    gathering = Gathering()
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines).encode()
    Evaluations("evaluation-metrics.txt", gathering, prefix, lambda: NOW).take(text, last=False)
    return points(gathering)


FFDL = (
    '{"meta":{"training_id":"..","time":1510000000000,"rindex":1,"subid":"3"},"grouplabel":"test","etimes":'
    '{"iteration":{"type":2,"value":"3"},"time_stamp":{"value":".."}},"values":{"accuracy":{"type":3,"value":"0.9"}}}'
)


def test_the_line_of_the_older_service() -> None:
    assert evaluated(FFDL) == ([("test", "accuracy", 3, 1_510_000_000_000, 0.9)], [])
    assert evaluated(FFDL, prefix="7")[0][0][0] == "7/test"


def test_values_that_are_no_numbers_are_left_out() -> None:
    values = {
        "a": {"type": 1, "value": "good"},
        "b": {"value": "0.5"},
        "c": 3,
        "d": {"type": 3, "value": "nan"},
        "e": None,
    }
    found, notes = evaluated({"values": values})
    assert [(name, value) for _, name, _, _, value in found[:2]] == [("b", 0.5), ("c", 3.0)]
    assert (found[2][1], len(found), notes) == ("d", 3, [])
    assert found[0][2:4] == (None, NOW)


@pytest.mark.parametrize(
    ("etimes", "step"),
    [
        ({"iteration": {"value": "7"}, "epoch": {"value": "1"}}, 7),
        ({"epoch": {"type": 2, "value": "1"}}, 1),
        ({"Global_Step": 12.0}, 12),
        ({"round": {"value": "4"}}, 4),
        ({"timestamp": {"value": "2026"}}, None),
        ({"iteration": {"value": "x"}, "epoch": "2"}, 2),
        ({"iteration": {"value": "1.5"}}, None),
        ([], None),
    ],
)
def test_steps_are_found_among_the_etimes(etimes: Any, step: int | None) -> None:
    assert [found[2] for found in evaluated({"etimes": etimes, "values": {"a": 1}})[0]] == [step]


def test_times_are_found_and_strange_ones_are_not_believed() -> None:
    stamp = {"time_stamp": {"value": "2026-01-31T12:00:00.500Z"}}
    assert evaluated({"etimes": stamp, "values": {"a": 1}})[0][0][3] == 1_769_860_800_500
    for time in (-1, "soon", 1e300, 0):
        assert evaluated({"meta": {"time": time}, "values": {"a": 1}})[0][0][3] == NOW


def test_broken_lines_between_good_ones() -> None:
    found, notes = evaluated("", "not json", FFDL, {"values": {}}, "[1]", FFDL)
    assert (len(found), len(notes)) == (2, 3)


def matched(regex: str, text: bytes, group: str = "g") -> tuple[list[Point], list[str]]:
    gathering = Gathering()
    expressions = Expressions([(group, expand_macros(regex))], gathering, lambda: NOW)
    try:
        assert expressions.take(text, last=True) == len(text)
        return points(gathering)
    finally:
        expressions.close()


def test_expressions_find_steps_values_and_times() -> None:
    text = b"start\nstep 10 loss 0.5 acc nan\rstep 20 loss 1e-3 acc 0.75\nstep x loss 1\n"
    found, notes = matched(r"step %{INT:step} loss %{FLOAT:loss}(?: acc %{FLOAT:acc})?", text)
    assert [(name, step, value) for _, name, step, _, value in found if name == "loss"] == [
        ("loss", 10, 0.5), ("loss", 20, 0.001),
    ]  # fmt: skip
    assert [(step, repr(value)) for _, name, step, _, value in found if name == "acc"] == [(10, "nan"), (20, "0.75")]
    assert {(group, at) for group, _, _, at, _ in found} == {("g", NOW)}
    assert notes == []
    stamped, _ = matched(r"%{TIMESTAMP:time} %{FLOAT:loss}", b"2026-01-31T12:00:00Z 0.5\n")
    assert stamped == [("g", "loss", None, 1_769_860_800_000, 0.5)]


def test_an_expression_that_never_ends_is_ended_and_the_others_go_on() -> None:
    gathering = Gathering()
    groups = [("bad", r"(?P<x>(a+)+)$"), ("good", r"loss (?P<loss>\S+)")]
    expressions = Expressions(groups, gathering, lambda: NOW)
    text = b"a" * 60 + b"!\nloss 1\n"
    expressions.take(text, last=False)
    expressions.take(text, last=False)
    found, notes = points(gathering)
    expressions.close()
    assert [(group, value) for group, _, _, _, value in found] == [("good", 1.0), ("good", 1.0)]
    assert notes == ["The regular expression of the group 'bad' takes too long on this log: it is not used any more."]


def test_lines_of_no_sensible_length_are_not_tried() -> None:
    assert matched(r"(?P<x>\d+)", b"1" * 10_000 + b"\n2\n\0003\n")[0] == [("g", "x", None, NOW, 2.0)]


def test_only_so_many_metrics_are_kept() -> None:
    gathering = Gathering()
    for number in range(MOST_SERIES + 5):
        gathering.add("", f"m{number}", None, 0, 1.0)
    gathering.add("", "n" * 300, None, 0, 1.0)
    gathering.add("", "m0", 2**70, -5, 1.0)
    found, notes = points(gathering)
    assert len(found) == MOST_SERIES + 1
    assert found[1] == ("", "m0", None, 0, 1.0)
    assert len(notes) == 2


def test_names_are_cleaned() -> None:
    assert clean("loss/é") == "loss/é"
    assert clean("a\0b\nc\ud800") == "a?b?c?"
