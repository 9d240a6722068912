"""Texts that are no YAML, or too much of it."""

from __future__ import annotations

import re
import time
import tracemalloc

import pytest
import yaml

from runyard.core.errors import ManifestError
from runyard.manifest.nodes import LOADER, MAX_BYTES, MAX_DEPTH, MAX_NODES, ListNode, MapNode, ScalarNode, compose
from tests.manifest.reading import SHORT, only, problems, spec

BROKEN = [
    ("", 0, "empty"),
    ("\n\n# only a comment\n", 0, "empty"),
    ("a: 1\n---\nb: 2\n", 2, "second document"),
    ("a:\n\tb: 1\n", 2, "A tab begins this line"),
    ("a:\n  b: 1\n \tc: 2\n", 3, "A tab begins this line"),
    ("a: @x\n", 1, "quote the value"),
    ("a: `x`\n", 1, "quote the value"),
    ("a: %x\n", 1, "quote the value"),
    ("a: b: c\n", 1, "A colon stands where no key can be"),
    ("a: 1\nb\nc: 2\n", 3, "A key without a colon"),
    ("a: 'x\nb: 2\n", 3, "The quote that begins on line 1 is never closed"),
    ("a:\n  - 1\n b: 2\n", 3, "does not fit what began on line 1"),
    ("a: [1, 2\nb: 3\n", 2, "does not fit what began on line 1"),
    ("a: {x: 1\n", 2, "does not fit what began on line 1"),
    ("a: !!python/object/apply:os.system [echo]\n", 1, "A tag"),
    ("a: !secret\n", 1, "A tag"),
    ("!x\na: 1\n", 1, "A tag"),
    ("a: !x!y z\n", 1, "A tag"),
    ("a: *nobody\n", 1, "An alias"),
    ("a: &a [*a]\n", 1, "An alias"),
    ("? [a, b]\n: 1\n", 1, "A key must be a word"),
    ("? {a: b}\n: 1\n", 1, "A key must be a word"),
    ("a: 1\nb: \x00\n", 2, "The character U+0000"),
    ("a: 1\n\nb: \x1b[0m\n", 3, "The character U+001B"),
    ("a: \ud800\n", 1, "The character U+D800"),
    ('a: 1\nb: "x\\0y"\n', 2, "control character"),
    ('a: "\\x07"\n', 1, "control character"),
    ('a: "\\d+"\n', 1, "use single quotes"),
    ('a: "\\ud83d\\ude00"\n', 1, "use single quotes"),
    ("a: 1\n<<: 5\n", 2, "`<<` takes in another table"),
    ("a: " + "[" * MAX_DEPTH + "]" * MAX_DEPTH, 1, "nested more than 32"),
    ("[" * MAX_BYTES, 1, "nested more than 32"),
    ("{" * 1000, 1, "nested more than 32"),
    ("- " * 1000, 1, "nested more than 32"),
    ("x" * (MAX_BYTES + 1), 0, "1 MiB"),
    ("é" * (MAX_BYTES // 2 + 1), 0, "1 MiB"),
    ("a: [" + "x," * MAX_NODES + "]", 1, "more than 50000 values"),
]


@pytest.mark.parametrize(("text", "line", "sentence"), BROKEN)
def test_broken_texts_are_explained(text: str, line: int, sentence: str) -> None:
    found_line, path, message = only(text)
    assert (found_line, path) == (line, "")
    assert sentence in message


@pytest.mark.parametrize(("text", "line", "sentence"), BROKEN)
def test_they_are_refused_without_the_fast_loader_too(text: str, line: int, sentence: str) -> None:
    with pytest.raises(ManifestError) as caught:
        compose(text, loader=yaml.SafeLoader)
    assert len(caught.value.problems) == 1


def test_the_fast_loader_is_used() -> None:
    assert LOADER is yaml.CSafeLoader


def bomb(levels: int, fan: int, *, merge: bool = False) -> str:
    lines = ["a0: &a0 {k0: x}" if merge else "a0: &a0 [x]"]
    for level in range(1, levels):
        inner = ", ".join([f"*a{level - 1}"] * fan)
        lines.append(f"a{level}: &a{level} {{<<: [{inner}]}}" if merge else f"a{level}: &a{level} [{inner}]")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        bomb(20, 10),
        bomb(100, 2),
        bomb(20, 10, merge=True),
        bomb(40_000, 1),
        bomb(200, 1, merge=True),
        "[" * 30 + "]" * 30 + ("\n# " + "x" * 70) * 14_000,
        "a: &a '" + "x" * 500_000 + "'\nb: [" + "*a," * 49_000 + "]",
        "a: [" + "&a x," * 100_000 + "]",
        "a:\n" + "  - b\n" * 150_000,
        "{" + "a: 1," * 200_000 + "}",
        "\n".join(f"key{n}: {n}" for n in range(40_000)),
        "hyper_parameters: " * 50_000,
        "? " * 400_000,
        '"' + "\\" * 1_000_000,
        "%" * 1_000_000,
        "&" * 1_000_000,
        "a: |\n" + " x\n" * 300_000,
        "#" * 1_000_000,
        " " * 1_000_000,
        "\n" * 1_000_000,
        "a: " + "'" * 999_999,
    ],
    ids=range(21),
)
def test_bombs_cost_little(text: str) -> None:
    assert len(text) <= MAX_BYTES
    tracemalloc.start()
    started = time.perf_counter()
    try:
        assert problems(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60 * 2**20
    assert time.perf_counter() - started < 10


def test_aliases_count_as_what_they_stand_for() -> None:
    many = "[" + ", ".join(["x"] * 1000) + "]"
    fits = f"a: &a {many}\nb: [" + ", ".join(["*a"] * 48) + "]\n"
    assert isinstance(compose(fits), MapNode)
    with pytest.raises(ManifestError, match="more than 50000"):
        compose(fits.replace("b: [", "b: [*a, "))


def test_depth_counts_through_aliases() -> None:
    inner = "[" * 20 + "x" + "]" * 20
    for levels, fits in ((10, True), (11, False)):
        text = f"a: &a {inner}\nb: {'[' * levels}*a{']' * levels}\n"
        if fits:
            assert isinstance(compose(text), MapNode)
        else:
            with pytest.raises(ManifestError, match="nested more than 32"):
                compose(text)


def test_nodes_know_their_lines_and_quotes() -> None:
    root = compose("a: 1\nb:\n  - 'x'\n  - y\n")
    assert isinstance(root, MapNode)
    first, second = root.entries
    assert (first.key, first.line, first.value) == ("a", 1, ScalarNode("1", 1, True))
    assert (second.line, second.value) == (2, ListNode((ScalarNode("x", 3, False), ScalarNode("y", 4, True)), 3))


def test_a_node_does_not_show_its_text() -> None:
    assert "hidden" not in repr(compose("a: [hidden]"))


def test_a_byte_order_mark_and_windows_lines_are_taken() -> None:
    assert spec("\ufeff" + SHORT.replace("\n", "\r\n")).command == "go"


def test_a_document_may_have_its_marks() -> None:
    assert spec("---\n" + SHORT + "...\n").command == "go"
    assert spec("%YAML 1.1\n---\n" + SHORT).command == "go"


def test_merged_keys_give_way() -> None:
    root = compose("a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], x: 0}\n'<<': 5\n")
    assert isinstance(root, MapNode)
    merged = root.get("c")
    assert isinstance(merged, MapNode)
    assert [(entry.key, entry.value) for entry in merged.entries] == [
        ("x", ScalarNode("0", 3)),
        ("y", ScalarNode("2", 1)),
        ("z", ScalarNode("4", 2)),
    ]
    assert root.get("<<") == ScalarNode("5", 4)


def test_at_most_fifty_problems_are_told() -> None:
    text = SHORT + "".join(f"key{n}: 1\n" for n in range(5000))
    found = problems(text)
    assert len(found) == 50
    assert all(re.fullmatch(r"key\d+", problem.path) for problem in found)
