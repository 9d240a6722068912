"""The manifest of a run without one says exactly what was meant, to the parser of the service."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runyard.client.errors import Misuse
from runyard.client.recipe import FIRST_LINE, Recipe, quoted
from runyard.core.resources import DEFAULT_CONFIGURATIONS
from runyard.core.spec import RunSpec
from runyard.manifest import parse
from runyard.manifest.nodes import MapNode, ScalarNode, compose


def read(recipe: Recipe) -> RunSpec:
    return parse(recipe.text(), configurations=DEFAULT_CONFIGURATIONS).spec


PRINTABLE = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=30)
COMMANDS = st.one_of(
    PRINTABLE,
    st.text("ab '\"\\$`{}#:-\n\t|>&!%@,[]", max_size=30),
    st.lists(st.sampled_from(["python a.py", "  b", "", "# c", "d: e", "- f", "g ", "|", "'"]), min_size=2).map(
        "\n".join
    ),
).filter(str.strip)
NAMES = PRINTABLE.map(lambda text: " ".join(text.split())).filter(lambda text: text and text.isprintable())


@settings(max_examples=400, deadline=None)
@given(command=COMMANDS, name=NAMES, value=PRINTABLE)
def test_what_is_meant_is_read(command: str, name: str, value: str) -> None:
    spec = read(Recipe(name=name, command=command.strip(), env={"A": value, "ON": "on"}, tags=("x", "1.0", "no")))
    assert (spec.name, spec.command) == (name, command.strip())
    assert dict(spec.options.env) == {"A": value, "ON": "on"}
    assert spec.options.tags == ("x", "1.0", "no")


def test_all_of_it() -> None:
    spec = read(
        Recipe(
            "n",
            "python a.py",
            gpus=2,
            cpu_millis=1500,
            memory="3000MiB",
            framework="pytorch:2.10",
            python="/a b/python",
            data=("one", "two/a", "two/b"),
            priority=70,
            max_runtime="2h",
        )
    )
    resources = spec.request.resources
    assert (resources.gpus, resources.cpu_millis, resources.memory_mib) == (2, 1500, 3000)
    assert (spec.framework.name, spec.framework.version) == ("pytorch", "2.10")
    assert [(each.bucket, each.prefix, each.name) for each in spec.data] == [
        ("one", "", "one"),
        ("two", "a", "two_a"),
        ("two", "b", "two_b"),
    ]
    assert (spec.results.bucket, spec.results.kind.value) == ("results", "local")
    assert (spec.options.python, spec.options.priority, spec.options.max_runtime_ms) == ("/a b/python", 70, 7_200_000)


def test_a_plain_one_is_easy_to_read() -> None:
    text = Recipe("mnist", "python prepare.py\npython train.py --lr {lr}", framework="pytorch").text()
    assert text == (
        f"{FIRST_LINE}\nname: mnist\ngpus: 0\nframework:\n  name: pytorch\n  command: |-\n"
        "    python prepare.py\n    python train.py --lr {lr}\n"
    )


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")))
def test_any_text_can_be_quoted(text: str) -> None:
    root = compose(f"a: {quoted(text)}\n")
    assert isinstance(root, MapNode)
    value = root.get("a")
    assert isinstance(value, ScalarNode)
    assert value.text == text


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(Misuse, match="not valid text"):
        Recipe("n", "python \udcff").text()
