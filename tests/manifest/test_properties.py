"""Whatever the text, a manifest is read or refused with problems; what is written correctly is read as it was meant."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runyard.core.errors import ManifestError
from runyard.core.resources import DEFAULT_CONFIGURATIONS
from runyard.core.spec import Credentials, Scalar
from runyard.manifest import Overrides, Parsed, ffdl, parse, service
from runyard.manifest.nodes import ListNode, MapNode, Node, ScalarNode, compose
from runyard.manifest.tables import Table
from tests.manifest.reading import FFDL, SERVICE, problems, read


def keys_of(table: Table) -> set[str]:
    """All spellings of all keys below a table, found through the kinds that hold tables."""
    found: set[str] = set()
    for key in table.keys:
        found |= {key.name, *key.aliases}
        kind = key.kind
        while not isinstance(kind, Table) and (hasattr(kind, "kind") or hasattr(kind, "value")):
            kind = getattr(kind, "kind", None) or getattr(kind, "value", None)
        if isinstance(kind, Table):
            found |= keys_of(kind)
    return found


KEYS = sorted(keys_of(service.TABLE) | keys_of(ffdl.TABLE) | {"<<", "x", "DATA_DIR", "1"})
WORDS = """~ 1 -1 0.5 1Gb 2h s3 local mount_volume small regex_extractor a/b ../x %{FLOAT:x} (?P<a> $a https://h on {lr}
1e400 $x training-a1B2c3D4e"""
SCALARS = st.one_of(st.sampled_from(["", "x" * 300, *WORDS.split()]), st.text(max_size=12))
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)),
    max_leaves=30,
)
ROOTS = st.dictionaries(
    st.sampled_from(sorted({*service.TABLE.spellings, *ffdl.TABLE.spellings})), TREES, min_size=1, max_size=8
)


def outcome(text: str, overrides: Overrides) -> Parsed | ManifestError:
    try:
        return parse(text, configurations=DEFAULT_CONFIGURATIONS, overrides=overrides)
    except ManifestError as error:
        return error


def check(text: str, overrides: Overrides) -> None:
    """Reading ``text`` gives a specification, or problems that all have a sentence and a sensible line."""
    found = outcome(text, overrides)
    if isinstance(found, Parsed):
        assert found.spec.command.strip()
        assert set(found.secrets) <= {"results", *(f"data/{n}" for n in range(100))}
        return
    lines = 2 + sum(text.count(end) for end in "\n\r\x85\u2028\u2029")
    assert found.problems
    for problem in found.problems:
        assert problem.message.strip()
        assert 0 <= problem.line <= lines


@given(st.one_of(st.text(), st.text("[]{}:,-?!&*#|>'\"%@` \n\tab01<=", max_size=60)))
def test_any_text(text: str) -> None:
    check(text, Overrides())
    check("model_definition: {execution: {command: go}}\nrunyard:\n  " + text, Overrides())


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(ROOTS)
def test_any_tree_of_known_keys(tree: dict[str, object]) -> None:
    check(json.dumps(tree), Overrides(priority=1, tags=("t",), env=(("A", "b"),), name="n", framework="f:1"))
    check(json.dumps(tree, indent=1), Overrides(data=("b",), gpus=1))


@given(st.data())
def test_any_mangled_manifest(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([SERVICE, FFDL]))
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(text)))
        text = text[:place] + data.draw(st.text(max_size=4)) + text[place + data.draw(st.integers(0, 20)) :]
    check(text, Overrides())


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_override(path: str, value: str) -> None:
    check(SERVICE, Overrides(paths=((path, value), ("runyard." + path, value), ("data_stores[0]", value))))
    check(FFDL, Overrides(framework=value, python=value, tags=(path,), env=((path, value),), data=(value,)))


def plain(node: Node) -> object:
    """The tree of ``node`` as lists, dictionaries and texts."""
    if isinstance(node, ScalarNode):
        return node.text
    if isinstance(node, ListNode):
        return [plain(item) for item in node.items]
    return {entry.key: plain(entry.value) for entry in node.entries}


PRINTABLE = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="\ufffe\uffff"), max_size=20
)
JSON = st.recursive(
    PRINTABLE, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(PRINTABLE, inner, max_size=4))
)


@given(JSON)
def test_json_is_read_as_it_was_written(tree: object) -> None:
    assert plain(compose(json.dumps(tree, ensure_ascii=False))) == tree


@given(JSON)
def test_lines_are_those_of_the_text(tree: object) -> None:
    text = json.dumps(tree, indent=1, ensure_ascii=False)
    lines = text.split("\n")

    def visit(node: Node) -> None:
        if isinstance(node, ScalarNode):
            assert json.dumps(node.text, ensure_ascii=False) in lines[node.line - 1]
        for item in node.items if isinstance(node, ListNode) else ():
            visit(item)
        for entry in node.entries if isinstance(node, MapNode) else ():
            assert json.dumps(entry.key, ensure_ascii=False) in lines[entry.line - 1]
            visit(entry.value)

    visit(compose(text))


LINE = PRINTABLE.filter(lambda text: text.strip() != "")
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True).map(lambda name: "X" + name)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    PRINTABLE,
)


@given(
    name=LINE,
    command=LINE,
    secret=LINE,
    parameters=st.dictionaries(NAMES, VALUES, max_size=4),
    env=st.dictionaries(NAMES, PRINTABLE, max_size=4),
    priority=st.integers(0, 100),
    nodes=st.integers(1, 1000),
)
def test_what_is_written_correctly_is_read_as_it_was_meant(
    name: str,
    command: str,
    secret: str,
    parameters: dict[str, Scalar],
    env: dict[str, str],
    priority: int,
    nodes: int,
) -> None:
    connection = {"endpoint_url": "https://h", "access_key_id": "k", "secret_access_key": secret}
    execution = {"command": command, "compute_configuration": {"name": "CPU", "nodes": nodes}}
    document = {
        "model_definition": {"name": name, "execution": execution},
        "training_results_reference": {"connection": connection, "target": {"bucket": "b"}},
        "runyard": {"hyper_parameters": parameters, "env": env, "priority": priority},
    }
    parsed = read(json.dumps(document, indent=2, ensure_ascii=False))
    assert (parsed.spec.name, parsed.spec.command) == (name, command.strip())
    assert parsed.spec.request.learners == nodes
    assert parsed.spec.options.priority == priority
    assert repr(parsed.spec.options.hyper_parameters) == repr(tuple(parameters.items()))
    assert parsed.spec.options.env == tuple(env.items())
    assert parsed.secrets == {"results": Credentials("k", secret)}


@given(st.permutations([("gpus", "1"), ("cpus", "2"), ("memory", "1Gb"), ("name", "n")]))
def test_the_order_of_keys_does_not_matter(items: list[tuple[str, str]]) -> None:
    head = "".join(f"{key}: {value}\n" for key, value in items)
    first = read("name: n\nmemory: 1Gb\ncpus: 2\ngpus: 1\nframework: {command: go}\n")
    assert read(head + "framework: {command: go}\n") == first
    assert not problems("framework: {command: go}\n" + head)
