"""What the command line lays over a manifest."""

from __future__ import annotations

import pytest

from runyard.core.resources import Resources
from runyard.core.spec import Connection, Framework, Location, StoreKind
from runyard.manifest import Overrides
from runyard.manifest.paths import steps
from tests.manifest.reading import FFDL, SERVICE, SHORT, only, ours, problems, read, spec

BOTH = pytest.mark.parametrize("text", [SERVICE, FFDL], ids=["service", "ffdl"])
TYPED = Overrides(
    name="other",
    tags=("b", "a"),
    priority=90,
    max_runtime_ms=1500,
    gpus=4,
    framework="pytorch:2.1",
    env=(("K", "new"), ("L", "null")),
    after=("training-a1B2c3D4e",),
    python="/opt/python",
)


@BOTH
def test_typed_options(text: str) -> None:
    table = "runyard: {priority: 3, tags: [a], env: {K: old, M: kept}, after: training-000000000}\n"
    found = spec(text + table, TYPED)
    assert (found.name, found.framework) == ("other", Framework("pytorch", "2.1"))
    assert found.request.resources.gpus == 4
    assert found.options.tags == ("a", "b")
    assert (found.options.priority, found.options.max_runtime_ms) == (90, 1500)
    assert found.options.env == (("K", "new"), ("M", "kept"), ("L", "null"))
    assert found.options.after == ("training-000000000", "training-a1B2c3D4e")
    assert found.options.python == "/opt/python"


@BOTH
def test_typed_options_without_a_table(text: str) -> None:
    found = spec(text, TYPED)
    assert found.options.tags == ("b", "a")
    assert found.options.env == (("K", "new"), ("L", "null"))
    assert found.command == spec(text).command


@BOTH
def test_no_options_change_nothing(text: str) -> None:
    assert read(text, Overrides()) == read(text)


@BOTH
def test_a_framework_without_version_forgets_the_old_one(text: str) -> None:
    assert spec(text, Overrides(framework="pytorch")).framework == Framework("pytorch")
    image = Overrides(framework="custom:host:5000/image:tag")
    assert spec(text, image).framework == Framework("custom", "host:5000/image:tag")


def test_gpus_beside_a_compute_configuration() -> None:
    request = spec(SERVICE, Overrides(gpus=0)).request
    assert (request.resources, request.configuration, request.learners) == (Resources(0, 8000, 49152), None, 3)
    assert spec(SERVICE, Overrides(gpus=2)).request.configuration == "k80x2"


@BOTH
def test_data_of_the_embedded_store_replace_the_references(text: str) -> None:
    broken = text.replace("https://s3.example.com\n", "<endpoint>\n")  # of the data: it does not matter any more
    found = read(broken, Overrides(data=("mine/train", "mine/test", "other")))
    assert found.spec.data == (
        Location(StoreKind.local, Connection(), "mine", "train", "mine_train"),
        Location(StoreKind.local, Connection(), "mine", "test", "mine_test"),
        Location(StoreKind.local, Connection(), "other", "", "other"),
    )
    assert set(found.secrets) == {"results"}
    assert found.spec.results == spec(text).results


def test_data_stores_with_nothing_left_are_gone() -> None:
    text = (
        "framework: {command: go}\ndata_stores:\n- {type: mount_cos, training_data: x}\n"
        "- {type: local, training_results: y}\n"
    )
    found = spec(text, Overrides(data=("b",)))
    assert [each.bucket for each in (*found.data, found.results)] == ["b", "y"]


def paths(*pairs: tuple[str, str]) -> Overrides:
    return Overrides(paths=pairs)


def test_values_are_set_by_path() -> None:
    found = read(
        SERVICE,
        paths(
            ("model_definition.execution.command", "go --x: [1] {lr}"),
            ("model_definition.framework.version", "2.10"),
            ("training_data_reference.connection.endpoint_url", "http://127.0.0.1:9"),
            ("training_data_reference.connection.secret_access_key", "*new"),
            ("training_results_reference.connection", "{name: stored}"),
            ("runyard.hyper_parameters.lr", "0.1"),
            ('runyard.hyper_parameters."opt.name"', '"5"'),
            ("runyard.tags[0]", "one"),
            ("runyard.tags[1]", "two"),
            ("model_definition.description", ""),
        ),
    )
    assert found.spec.command == "go --x: [1] {lr}"
    assert found.spec.framework.version == "2.10"
    assert found.spec.data[0].connection == Connection(endpoint_url="http://127.0.0.1:9", secret="data/0")
    assert found.secrets["data/0"].secret_access_key == "*new"
    assert found.spec.results.connection == Connection(named="stored")
    assert found.spec.options.hyper_parameters == (("lr", 0.1), ("opt.name", "5"))
    assert found.spec.options.tags == ("one", "two")
    assert found.spec.description == ""


def test_paths_reach_into_lists_and_make_a_manifest() -> None:
    found = spec(FFDL, paths(("data_stores[0].connection.region", "eu"), ("gpus", "7")))
    assert (found.results.connection.region, found.request.resources.gpus) == ("eu", 7)
    assert spec("{}", paths(("framework.command", "go"))).command == "go"
    assert spec(SHORT, paths(("training_data_reference[0].source", "b"))).data[0].bucket == "b"


def test_typed_options_come_after_paths() -> None:
    found = spec(SHORT, Overrides(paths=(("runyard.priority", "1"), ("runyard.tags", "[a]")), priority=2, tags=("b",)))
    assert (found.options.priority, found.options.tags) == (2, ("a", "b"))


@pytest.mark.parametrize(
    ("overrides", "path", "sentence"),
    [
        (Overrides(priority=101), "runyard.priority", "from 0 to 100"),
        (Overrides(priority=-1), "runyard.priority", "from 0 to 100"),
        (Overrides(max_runtime_ms=0), "runyard.max_runtime", "above zero"),
        (Overrides(max_runtime_ms=-5), "runyard.max_runtime", "no duration"),
        (Overrides(gpus=-1), "--gpus", "from 0"),
        (Overrides(name=" "), "model_definition.name", "not empty"),
        (Overrides(tags=("a b",)), "runyard.tags[0]", "no space"),
        (Overrides(after=("last",)), "runyard.after[0]", "whole id"),
        (Overrides(env=(("RANK", "0"),)), "runyard.env", "`RANK` is set by Runyard"),
        (Overrides(env=(("A", "x\0"),)), "runyard.env.A", "holds a NUL character"),
        (Overrides(env=(("A=B", "0"),)), "runyard.env", "cannot be an environment variable"),
        (Overrides(data=("b", "../x")), "--data[1]", "A bucket has letters"),
        (Overrides(data=("b", "b")), "--data[1]", "name them apart"),
        (paths(("", "x")), "", "1 to 16 steps"),
        (paths(("a..b", "x")), "a..b", "no path"),
        (paths((".a", "x")), ".a", "no path"),
        (paths(("a[x]", "x")), "a[x]", "no path"),
        (paths(("a[0", "x")), "a[0", "no path"),
        (paths(("a]b", "x")), "a]b", "no path"),
        (paths(('a."b', "x")), 'a."b', "no path"),
        (paths((".".join("a" * 17), "x")), ".".join("a" * 17), "1 to 16 steps"),
        (paths(("model_definition[0]", "x")), "model_definition[0]", "no place [0] in a table of keys"),
        (paths(("runyard.tags[1]", "x")), "runyard.tags[1]", "no place [1] in 0 items"),
        (
            paths(("model_definition.execution.command.x", "x")),
            "model_definition.execution.command.x",
            "a single value",
        ),
        (paths(("runyard.tags", "[a")), "runyard.tags", "does not fit"),
        (paths(("runyard.tags", "'a' b")), "runyard.tags", "does not fit"),
        (paths(("runyard.prio", "1")), "runyard.prio", "did you mean `priority`?"),
    ],
)
def test_problems_have_the_path_and_no_line(overrides: Overrides, path: str, sentence: str) -> None:
    line, where, message = only(SHORT, overrides)
    assert (line, where) == (0, path)
    assert sentence in message


def test_a_secret_in_an_override_is_not_repeated() -> None:
    for value in ("hUsH9x", "{hUsH9x", "'hUsH9x", "[hUsH9x]", "{hUsH9x: 1}"):
        for path in ("training_data_reference.connection.password", "training_data_reference.connection"):
            found = problems(SHORT, paths((path, value), ("runyard.priority", "x")))
            assert found
            assert not any("hUsH9x" in str(problem) for problem in found)


def test_a_table_that_is_none_is_reported_once() -> None:
    found = problems(ours("").replace("runyard:", "runyard: [a]"), Overrides(priority=5, tags=("a",)))
    assert {problem.path for problem in found} >= {"runyard"}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a", ("a",)),
        ("a.b", ("a", "b")),
        ("a[0].b[12][3]", ("a", 0, "b", 12, 3)),
        ('"a.b".c', ("a.b", "c")),
        ("a.b-c_d", ("a", "b-c_d")),
    ],
)
def test_paths(path: str, found: tuple[str | int, ...]) -> None:
    assert steps(path) == found
