"""Placeholders in commands: a real bash prints the arguments that it read."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runyard.core.command import Filling, fill, identical_runs_refusal, placeholders, scalar_text
from runyard.core.spec import Scalar

SHOW = "printf '%s\\0' "
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
NASTY = st.one_of(TEXT, st.text("'\"`$\\!{}()#;&|<>*?~ \n\ta=-", max_size=12))
VALUES = st.one_of(NASTY, st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False))


def printed(command: str) -> bytes:
    """What bash prints; it must find nothing to complain of."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-e", "-c", command],
        capture_output=True,
        timeout=20,
        check=False,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )
    assert (done.returncode, done.stderr) == (0, b""), (command, done)
    return done.stdout


def appended(parameters: Mapping[str, Scalar]) -> list[str]:
    """`--name value`, and `--name=value` where the value would be taken for an option."""
    found: list[str] = []
    for name, text in ((name, scalar_text(value)) for name, value in parameters.items()):
        option = text.startswith("-") and not re.fullmatch(r"-[0-9]+|-[0-9]*\.[0-9]+", text)
        found += [f"--{name}={text}"] if option else [f"--{name}", text]
    return found


def arguments(command: str) -> list[str]:
    return printed(command).decode().split("\0")[:-1]


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("train --lr {lr}", {"lr"}),
        ("train --lr={lr} --w '{width}' \"{opt.name}\"", {"lr", "width", "opt.name"}),
        ("train ${lr} $lr", set[str]()),
        ("train {{lr}} {lr_} {LR} { lr }", set[str]()),
        ("train \\{lr}", set[str]()),
        ("train '\\{lr}'", {"lr"}),
        ('train \'{"a": {"lr": {lr}}}\'', {"lr"}),
        ("echo {a,b} | awk '{print $1}'", set[str]()),
        ("echo $({lr}) `{width}`", {"lr", "width"}),
        ("cat > c <<EOF\n{lr}\nEOF", {"lr"}),
        ("cat > c <<'EOF'\n{lr}\nEOF\n# {width}", {"lr", "width"}),
        ("", set[str]()),
    ],
)
def test_placeholders(command: str, found: set[str]) -> None:
    assert placeholders(command, {"lr", "width", "opt.name"}) == found


def test_only_hyper_parameters_are_placeholders() -> None:
    assert placeholders("{lr} {print}", {"lr"}) == {"lr"}
    assert fill("{lr} {print}", {"lr": 1}, append_args=False) == "1 {print}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1e-05, "1e-05"),
        (100000.0, "100000.0"),
        (1 / 3, "0.3333333333333333"),
        (3, "3"),
        (-2, "-2"),
        (True, "true"),
        (False, "false"),
        ("adam", "adam"),
        ("a/b:c=d,e", "a/b:c=d,e"),
    ],
)
def test_plain_values_are_written_as_they_are(value: Scalar, text: str) -> None:
    assert scalar_text(value) == text
    assert (
        fill("go {v} '{v}' \"{v}\" x{v}x", {"v": value}, append_args=False) == f"go {text} '{text}' \"{text}\" x{text}x"
    )


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("{v}", ["{}"]),
        ("--v={v} {v}{v}", ["--v={}", "{}{}"]),
        ("a{v}'b{v}c'\"d{v}e\"f", ["a{}b{}cd{}ef"]),
        ("'{v}' \"{v}\" $'\\t{v}\\'' $\"{v}\"", ["{}", "{}", "\t{}'", "{}"]),
        ('"it\'s {v}" \'say "{v}"\'', ["it's {}", 'say "{}"']),
        ("\\\"{v}\\' \\\\{v}", ["\"{}'", "\\{}"]),
        ("\\{v} {{v}} '${v}'", ["{v}", "{{v}}", "${v}"]),
        ("`true`{v} $(true){v}", ["{}", "{}"]),
        ('"$(true)"{v} "`true`{v}"', ["{}", "{}"]),
        ("$((1+(2*3))){v} ${#x}{v} a#'{v}'", ["7{}", "0{}", "a#{}"]),
        ('${x:-"{v}"} "${x:-}{v}"', ["{}", "{}"]),
        ("a; : # \"it's {v}\n: <<< ' {v}'; " + SHOW + "'{v}'", ["a", "{}"]),
        ("$((1<<3))\n" + SHOW + "{v}", ["8", "{}"]),
        ("1 | cat; (" + SHOW + "{v})\n" + SHOW + "{v}", ["1", "{}", "{}"]),
    ],
)
@settings(max_examples=40, deadline=None)
@given(value=NASTY)
def test_bash_reads_each_value_as_it_is(command: str, wanted: list[str], value: str) -> None:
    filled = fill(SHOW + command, {"v": value}, append_args=False)
    # Doubled braces of `wanted` stand for themselves; `{}` is the value.
    assert arguments(filled) == [value.join(text.split("{}")) for text in wanted]


@pytest.mark.parametrize(
    "command",
    [
        'printf %s "$(printf %s {v})x"',
        'x=$(printf %s "$(printf %s "{v}")"); printf %s "${x}x"',
        'printf %s "$(cat <<EOF\n{v}\nEOF\n)x"',
        "printf %s \"$(cat <<-'E F' | cat\n\t{v}\n\tE F\n)x\"",
    ],
)
@settings(max_examples=60, deadline=None)
@given(value=NASTY.map(lambda text: " ".join(text.split()) or "-"))
@example("\x01\x01")
@example("\x01\x7f")
@example("EOF")
@example("EOF)x")
@example("E F")
def test_values_survive_substitutions(command: str, value: str) -> None:
    """But for what bash loses, or would take for the end of a here-document: that is refused."""
    try:
        filled = fill(command, {"v": value}, append_args=False)
    except ValueError:
        ends = re.match(r"(EOF|E F)($|.*\))", value)
        assert ("<<" in command and ends) or ("<<-'" in command and "\x01" in value)
        return
    assert printed(filled).decode() == value + "x"


@pytest.mark.parametrize(
    ("command", "values"),
    [
        ("cat <<EOF\n{v}\nEOF\n", {"v": "EOF"}),
        ("cat <<EOF\n{v}{w}\nEOF\n", {"v": "E", "w": "OF"}),
        ("cat <<EOF\nE{v}F\nEOF\n", {"v": "O"}),
        ("cat <<-'E F'\n\t\t{v}\n\tE F\n", {"v": "E F"}),
        ("cat <<-'E F'\n{v}\nE F\n", {"v": "\tE F"}),
        ("cat <<''\n{v}\n\n", {"v": ""}),
        ("$(cat <<EOF\n{v}\nEOF\n)", {"v": "EOF and )"}),
        ("(cat <<EOF\n{v} and )\nEOF\n)", {"v": "EOF"}),
        ("cat <<1.0\n{v}\n1.0\n", {"v": 1.0}),
    ],
)
def test_a_value_does_not_end_a_here_document(command: str, values: dict[str, Scalar]) -> None:
    with pytest.raises(ValueError, match=r"`v` makes the line that ends its here-document"):
        fill(command, values, append_args=False)
    with pytest.raises(ValueError, match="give that another end"):
        Filling(command, append_args=False).check(values)


def test_a_line_of_a_here_document_is_compared_as_a_whole() -> None:
    other = {"v": "EOF", "w": ""}
    assert printed(fill("cat <<EOF\n {v}\nEOF\n", other, append_args=False)) == b" EOF\n"
    assert printed(fill("cat <<EOF\n{v})\nEOF\n", other, append_args=False)) == b"EOF)\n"
    assert printed(fill("cat <<EOF\n{v}{u}\nEOF\n", other, append_args=False)) == b"EOF{u}\n"
    assert printed(fill("cat <<EOF; printf %s {v}\n-{w}-\nEOF\n", other, append_args=False)) == b"--\nEOF"


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["lr", "opt.name", "_x", "a-b"]), VALUES, min_size=1))
def test_appended_arguments_reach_the_program(parameters: Mapping[str, Scalar]) -> None:
    want = appended(parameters)
    assert arguments(fill(SHOW + "first", parameters, append_args=True)) == ["first", *want]
    assert arguments(fill(SHOW + "{lr} \\\n  ", parameters, append_args=True))[1:] == want


def test_a_value_is_not_filled_again() -> None:
    filled = fill(SHOW + "{a} '{b}'", {"a": "{b}", "b": "{a}"}, append_args=True)
    assert arguments(filled) == ["{b}", "{a}", "--a", "{b}", "--b", "{a}"]


def test_arguments_go_to_the_last_program() -> None:
    assert fill("prepare; python t.py\n", {"lr": 0.1}, append_args=True) == "prepare; python t.py --lr 0.1"
    assert fill("find . -exec t {} \\;", {"lr": 0.1}, append_args=True) == "find . -exec t {} \\; --lr 0.1"
    assert fill("t 'it # is'", {"on": True}, append_args=True) == "t 'it # is' --on true"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("t # fast", "ends in a comment"),
        ("t 'a", "ends in an open quote"),
        ("t $'a", "ends in an open quote"),
        ('t "a', "ends in an open quote"),
        ("t <<E\nx\nE", "ends in a here-document"),
        ("t;", "ends in `;`"),
        ("t &", "ends in `&`"),
        ("t |", r"ends in `\|`"),
    ],
)
def test_arguments_that_would_be_lost_are_refused(command: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        fill(command, {"lr": 1}, append_args=True)
    assert fill(command, {"lr": 1}, append_args=False) == command


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(ValueError, match="`v` holds a NUL"):
        fill("t", {"v": "a\0b"}, append_args=True)
    with pytest.raises(ValueError, match="`v` holds a line break"):
        fill("cat <<E\n{v}\nE", {"v": "x\nE\nrm"}, append_args=False)
    with pytest.raises(ValueError, match="`v` cannot be put into"):
        fill('t "${x:-{v}}"', {"v": "a b"}, append_args=False)
    with pytest.raises(ValueError, match="`v` cannot be put between backticks"):
        fill('printf %s "`printf %s {v}`x"', {"v": "<({"}, append_args=False)
    assert arguments(fill(SHOW + "`echo {v}`", {"v": 0.1}, append_args=False)) == ["0.1"]
    assert arguments(fill(SHOW + '"${x:-{v}}"', {"v": 0.1}, append_args=False)) == ["0.1"]


@given(st.one_of(st.text(max_size=60), st.text("'\"`$\\{}v()#<E-\n\t ", max_size=40)))
def test_in_any_text_what_is_a_placeholder_is_filled(command: str) -> None:
    for candidate in (command, command + "{v}", "'" + command + '`"{v}'):
        filled = fill(candidate, {"v": 7}, append_args=False)
        assert (filled != candidate) == ("v" in placeholders(candidate, {"v"}))
        assert fill(candidate, {}, append_args=False) == candidate


def test_long_commands_are_read_in_linear_time() -> None:
    size = 25_000
    texts = ["<<a " * size + "\n", "<<a\n" * size, "(" * size + "{v}" * size, '`"' * size + "{v}" * size]
    texts += ["".join(f"<<a{n}\n" for n in range(size)), "{" * 4 * size, "'\\" * 2 * size, "$(" * size + ")" * size]
    texts += ["<<E\n" + "{v}" * size + "\nE", "<<E\n" + "{v}\n" * size + "E"]
    started = time.perf_counter()
    for text in texts:
        assert fill(text, {"w": "a b"}, append_args=False) == text
    assert time.perf_counter() - started < 5


REFUSAL_CASES = [
    ("train.py", ["lr"], 24, False, False, True),
    ("train.py ${lr}", ["lr"], 24, False, False, True),
    ("train.py {lr}", ["lr"], 24, False, False, False),
    ("train.py {lr}", ["lr", "width"], 24, False, False, False),
    ("train.py", ["lr"], 24, True, False, False),
    ("train.py", ["lr"], 24, False, True, False),
    ("train.py", ["lr"], 24, False, None, False),
    ("train.py", ["lr"], 1, False, False, False),
    ("train.py", [], 2, False, False, False),
]


@pytest.mark.parametrize(("command", "names", "runs", "args", "mentions", "refused"), REFUSAL_CASES)
def test_identical_runs_are_refused(
    command: str, names: list[str], runs: int, args: bool, mentions: bool | None, refused: bool
) -> None:
    sentence = identical_runs_refusal(command, names, runs, args, mentions)
    assert (sentence is not None) is refused
    if sentence is not None:
        assert "24 runs would be identical" in sentence
        assert all(way in sentence for way in ("{lr}", "--args", "config.json", "--force"))
