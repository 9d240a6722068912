"""``evaluation_metrics`` of dialect two."""

from __future__ import annotations

import json
import re

import pytest

from runyard.core.spec import EvaluationMetrics
from runyard.manifest import compile_regex, expand_macros
from tests.manifest.reading import only, read, spec


def metrics(table: str) -> str:
    return "framework: {command: go}\nevaluation_metrics:\n" + table


@pytest.mark.parametrize("kind", ["tensorboard", "emetrics_file", "none"])
def test_types(kind: str) -> None:
    assert spec(metrics(f"  type: {kind}")).metrics == EvaluationMetrics(kind)
    assert spec(metrics(f"  {kind}")).metrics == EvaluationMetrics(kind)
    assert spec(metrics(f"  type: {kind}\n  in: $LOG_DIR/x")).metrics == EvaluationMetrics(kind, "$LOG_DIR/x")


def test_groups_keep_their_macros() -> None:
    table = r"""
  type: regex_extractor
  groups:
    test: {regex: 'loss %{FLOAT:loss} at (?P<time>\S+)'}
    train: step %{INT:step}
"""
    assert spec(metrics(table)).metrics == EvaluationMetrics(
        "regex_extractor", "", (("test", r"loss %{FLOAT:loss} at (?P<time>\S+)"), ("train", "step %{INT:step}"))
    )


def test_the_whole_form_of_ffdl_names_the_groups() -> None:
    table = r"""
  type: regex_extractor
  line_lookahead: 4
  groups:
    test:
      regex: '%{TIMESTAMP:stamp} Iteration %{INT:i}, (?P<l>[0-9.]+)/(?P=l) acc %{FLOAT:accuracy} %{FLOAT}'
      meta: {time: $stamp}
      scalars:
        loss: {type: FLOAT, value: $l}
        accuracy: {type: FLOAT, value: $accuracy}
      etimes:
        iteration: {type: INT, value: $i}
        timestamp: {type: STRING, value: $stamp}
"""
    parsed = read(metrics(table))
    ((name, regex),) = parsed.spec.metrics.groups
    assert name == "test"
    assert regex == (
        "%{TIMESTAMP:timestamp} Iteration %{INT:iteration}, (?P<loss>[0-9.]+)/(?P=loss) acc %{FLOAT:accuracy} %{FLOAT}"
    )
    match = compile_regex(regex).search("2018-01-02T03:04:05.6Z Iteration 7, 0.5/0.5 acc .9 1e5")
    assert match is not None
    assert match.groupdict() == {
        "timestamp": "2018-01-02T03:04:05.6Z",
        "iteration": "7",
        "loss": "0.5",
        "accuracy": ".9",
    }
    assert [note.split("`")[1] for note in parsed.notes] == [
        "evaluation_metrics.line_lookahead",
        "evaluation_metrics.groups.test.meta",
    ]


def test_names_may_be_exchanged() -> None:
    table = "  type: regex_extractor\n  groups: {g: {regex: '%{INT:a} %{INT:b}', values: {a: $b, b: $a}}}"
    assert spec(metrics(table)).metrics.groups == (("g", "%{INT:b} %{INT:a}"),)


@pytest.mark.parametrize(
    ("regex", "line", "groups"),
    [
        ("%{FLOAT:x}", "loss: 0.25,", {"x": "0.25"}),
        ("=%{FLOAT:x}", "loss=-1.5e-07;", {"x": "-1.5e-07"}),
        ("loss %{FLOAT:x}", "loss NaN", {"x": "NaN"}),
        ("loss %{FLOAT:x}", "loss -inf", {"x": "-inf"}),
        ("loss %{FLOAT:x}", "loss 3", {"x": "3"}),
        ("%{INT:n}/%{INT:of}", "step 12/500", {"n": "12", "of": "500"}),
        ("%{TIMESTAMP:t}", "at 2018-05-06 07:08:09,123 x", {"t": "2018-05-06 07:08:09,123"}),
        ("%{TIMESTAMP:t}", "at 2018-05-06T07:08:09+02:00 x", {"t": "2018-05-06T07:08:09+02:00"}),
        ("(?P<word>\\w+) %{INT}", "ab 1", {"word": "ab"}),
        ("%%{INT:x}", "%5", {"x": "5"}),
    ],
)
def test_macros(regex: str, line: str, groups: dict[str, str]) -> None:
    match = compile_regex(regex).search(line)
    assert match is not None
    assert match.groupdict() == groups


def test_what_is_no_macro_is_left() -> None:
    for text in ("%d{3}", "%{}", "%{a b}", "{INT:x}", "%{INT:x"):
        assert expand_macros(text) == text


def test_an_expansion_is_a_plain_regular_expression() -> None:
    assert re.compile(expand_macros("%{INT:a}|%{FLOAT}")).groupindex == {"a": 1}


PROBLEMS = [
    ("regex: '%{FLAOT:x}'", "regex", "did you mean `FLOAT`?"),
    ("regex: '(?P<x>'", "regex", "no regular expression of Python: missing ), unterminated subpattern"),
    ("regex: '%{INT:x} %{INT:x}'", "regex", "redefinition of group name"),
    ("regex: '%{INT:9x}'", "regex", "bad character in group name"),
    ("regex: 'loss (.*)'", "regex", "Name what is to be measured"),
    ("regex: '(?P<x>a{9999999999})'", "regex", "too large"),
    ("regex: ''", "regex", "Name what"),
    ("{}", "regex", "missing"),
    ("regex: '%{INT:x}', scalars: {y: $z}", "scalars.y", "a named group of the regular expression: $x"),
    ("regex: '%{INT:x}', scalars: {y: 5}", "scalars.y", "a named group of the regular expression: $x"),
    ("regex: '%{INT:x}', scalars: {top-5: $x}", "scalars.top-5", "letters, digits and `_`"),
    ("regex: '%{INT:x}', scalars: {a: $x, b: $x}", "scalars.b", "another name already"),
    ("regex: '%{INT:x} %{INT:y}', scalars: {y: $x}", "", "same name"),
    ("regex: '%{INT:x}', scalars: {y: {type: INT}}", "scalars.y.value", "missing"),
    ("regex: '%{INT:x}', scalers: {y: $x}", "scalers", "did you mean `scalars`?"),
]


@pytest.mark.parametrize(("group", "path", "sentence"), PROBLEMS)
def test_problems_of_a_group(group: str, path: str, sentence: str) -> None:
    body = group if group == "{}" else f"{{{group}}}"
    line, where, message = only(metrics(f"  type: regex_extractor\n  groups:\n    g: {body}\n"))
    assert (line, where) == (5, "evaluation_metrics.groups.g" + (f".{path}" if path else ""))
    assert sentence in message


def test_a_nest_of_brackets_is_refused() -> None:
    regex = "(" * 2000 + ")" * 2000
    message = only(metrics(f"  type: regex_extractor\n  groups: {{g: {json.dumps(regex)}}}"))[2]
    assert "too large" in message
    assert "4096 characters" in only(metrics(f"  type: regex_extractor\n  groups: {{g: {'x' * 5000}}}"))[2]


def test_groups_go_with_their_type() -> None:
    assert "needs at least one group" in only(metrics("  type: regex_extractor"))[2]
    assert "Only `type: regex_extractor`" in only(metrics("  type: none\n  groups: {g: '%{INT:x}'}"))[2]
