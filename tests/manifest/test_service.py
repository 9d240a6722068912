"""Dialect one, the Service's."""

from __future__ import annotations

import pytest

from runyard.core.resources import Resources
from runyard.core.spec import (
    Connection,
    Credentials,
    Framework,
    Location,
    Options,
    ResourceRequest,
    RunSpec,
    StoreKind,
)
from tests.manifest.reading import SERVICE, SHORT, only, problems, read, spec


def test_a_whole_manifest() -> None:
    parsed = read(SERVICE)
    assert parsed.spec == RunSpec(
        name="tf-mnist",
        command="python3 train.py --images ${DATA_DIR}/images.gz && echo done",
        request=ResourceRequest(Resources(2, 8000, 48 * 1024), "k80x2", 3, None),
        data=(
            Location(
                StoreKind.s3,
                Connection(endpoint_url="https://s3.example.com", secret="data/0"),
                "mnist-training-data",
                "",
                "MNIST image data files",
            ),
        ),
        results=Location(
            StoreKind.s3,
            Connection(endpoint_url="https://s3.example.com:9000/base", region="eu-de", secret="results"),
            "mnist-training-models",
            "",
            "models",
        ),
        framework=Framework("tensorflow", "1.50"),
        description="Digits",
        author="Ada Example",
        email="ada@example.org",
        dialect="service",
    )
    assert parsed.secrets == {"data/0": Credentials("KEYID", "SECRET"), "results": Credentials("KEYID2", "SECRET2")}
    assert parsed.notes == ()


def test_the_least_manifest() -> None:
    parsed = read(SHORT)
    assert parsed.spec == RunSpec(
        name="untitled",
        command="go",
        request=ResourceRequest(Resources(1, 6000, 12 * 1024), "small"),
        data=(),
        results=Location(StoreKind.local, Connection(), "results", "", "results"),
        options=Options(),
        dialect="service",
    )
    assert parsed.secrets == {}


@pytest.mark.parametrize(
    ("version", "kept"),
    [
        ("1.5", "1.5"),
        ("1.50", "1.50"),
        ('"1.5"', "1.5"),
        ("2", "2"),
        ("1.10", "1.10"),
        ("010", "010"),
        ("1e3", "1e3"),
        ("2.0.0-gpu", "2.0.0-gpu"),
        ("on", "on"),
        ("1_0", "1_0"),
        ("12:30", "12:30"),
    ],
)
def test_a_version_stays_as_it_was_written(version: str, kept: str) -> None:
    text = f"model_definition: {{framework: {{name: tf, version: {version}}}, execution: {{command: go}}}}"
    assert spec(text).framework == Framework("tf", kept)


@pytest.mark.parametrize(
    "command",
    [
        "python3 a.py --d $DATA_DIR | tee log; cd sub && ls",
        "echo 'a: b' # not a comment in quotes",
        'if [ "$LEARNER_ID" == "1" ]; then\n  go\nfi',
    ],
)
def test_a_command_is_kept(command: str) -> None:
    lines = "\n".join(" " * 6 + line for line in command.split("\n"))
    assert spec(f"model_definition:\n  execution:\n    command: |\n{lines}\n").command == command


def test_a_folded_command_is_one_line() -> None:
    text = "model_definition:\n  execution:\n    command: python3 a.py\n      --x 1\n      --y 2\n"
    assert spec(text).command == "python3 a.py --x 1 --y 2"


@pytest.mark.parametrize(
    ("size", "request_"),
    [
        ("{name: small}", ResourceRequest(Resources(1, 6000, 12288), "small")),
        ("{name: CPU}", ResourceRequest(Resources(0, 1000, 2048), "cpu")),
        ("K80X4", ResourceRequest(Resources(4, 16000, 98304), "k80x4")),
        ("{nodes: 2}", ResourceRequest(Resources(1, 6000, 12288), "small", 2)),
        ("", ResourceRequest(Resources(1, 6000, 12288), "small")),
    ],
)
def test_compute_configurations(size: str, request_: ResourceRequest) -> None:
    text = f"model_definition:\n  execution:\n    command: go\n    compute_configuration: {size}\n"
    assert spec(text).request == request_


def test_an_unknown_compute_configuration_names_the_nearest_and_all() -> None:
    line, path, message = only("model_definition:\n  execution:\n    command: go\n    compute_configuration: k80x3\n")
    assert (line, path) == (4, "model_definition.execution.compute_configuration.name")
    assert "`k80x3`" in message
    assert "did you mean `k80x" in message
    assert "cpu, k80, k80x2, k80x4, large, medium, p100, p100x2, small, v100, v100x2" in message


REFERENCES = [
    (
        "connection: {name: disks}\n  source: {bucket: b, type: mount_volume}",
        StoreKind.volume,
        "b",
        "",
        Connection(named="disks"),
        "b",
    ),
    ("source: {bucket: b}", StoreKind.local, "b", "", Connection(), "b"),
    ("source: b/c/d/", StoreKind.local, "b", "c/d", Connection(), "b"),
    ("source: {bucket: b/c}\n  type: local", StoreKind.local, "b", "c", Connection(), "b"),
    ("source: {bucket: b, type: local}", StoreKind.local, "b", "", Connection(), "b"),
    ("source: {bucket: b, type: local}\n  type: local", StoreKind.local, "b", "", Connection(), "b"),
    ("name: n\n  source: {bucket: 2018}", StoreKind.local, "2018", "", Connection(), "n"),
    ("connection: mine\n  source: {bucket: b}", StoreKind.s3, "b", "", Connection(named="mine"), "b"),
    (
        "connection: {name: mine}\n  source: {bucket: b}\n  type: s3",
        StoreKind.s3,
        "b",
        "",
        Connection(named="mine"),
        "b",
    ),
    (
        "connection: {endpoint_url: http://h:1}\n  source: {bucket: b}",
        StoreKind.s3,
        "b",
        "",
        Connection(endpoint_url="http://h:1"),
        "b",
    ),
    ("connection: {region: eu}\n  source: {bucket: b}", StoreKind.s3, "b", "", Connection(region="eu"), "b"),
    (
        "connection: {type: host_mount, name: label, path: /cos}\n  source: {bucket: b}\n  type: mount_volume",
        StoreKind.volume,
        "b",
        "",
        Connection(path="/cos"),
        "b",
    ),
    ("connection: {path: /cos}\n  source: {bucket: b}", StoreKind.volume, "b", "", Connection(path="/cos"), "b"),
    (
        "connection: {name: disks}\n  source: {bucket: b}\n  type: mount_volume",
        StoreKind.volume,
        "b",
        "",
        Connection(named="disks"),
        "b",
    ),
    (
        "connection: mine\n  source: {bucket: b}\n  type: mount_cos",
        StoreKind.s3,
        "b",
        "",
        Connection(named="mine"),
        "b",
    ),
    (
        "connection: mine\n  source: {bucket: b}\n  type: s3_datastore",
        StoreKind.s3,
        "b",
        "",
        Connection(named="mine"),
        "b",
    ),
]


@pytest.mark.parametrize(("body", "kind", "bucket", "prefix", "connection", "name"), REFERENCES)
def test_references(body: str, kind: StoreKind, bucket: str, prefix: str, connection: Connection, name: str) -> None:
    location = Location(kind, connection, bucket, prefix, name)
    assert spec(SHORT + f"training_data_reference:\n  {body}\n").data == (location,)
    results = body.replace("source:", "target:")
    assert spec(SHORT + f"training_results_reference:\n  {results}\n").results == location


def test_several_data_references() -> None:
    parsed = read(
        SHORT
        + """\
training_data_reference:
- name: images
  source: {bucket: a, type: local}
- name: labels
  connection: &c {endpoint_url: https://h, access_key_id: I, secret_access_key: S, session_token: T}
  source: {bucket: b, type: s3}
- name: masks
  connection: *c
  source: {bucket: c}
"""
    )
    assert [(each.name, each.bucket, each.connection.secret) for each in parsed.spec.data] == [
        ("images", "a", None),
        ("labels", "b", "data/1"),
        ("masks", "c", "data/2"),
    ]
    assert parsed.secrets == {"data/1": Credentials("I", "S", "T"), "data/2": Credentials("I", "S", "T")}


def test_a_merge_key_takes_in_another_table() -> None:
    parsed = read(
        SHORT
        + """\
training_data_reference:
  connection: &c {endpoint_url: https://h, region: one}
  source: {bucket: b}
training_results_reference:
  connection: {<<: *c, region: two}
  target: {bucket: b}
"""
    )
    assert parsed.spec.results.connection == Connection(endpoint_url="https://h", region="two")


def test_runtimes_name_the_python_that_was_meant() -> None:
    for runtimes in ("[{name: python, version: 3.5}]", "{name: python, version: '3.5'}"):
        parsed = read(f"model_definition: {{framework: {{name: t, runtimes: {runtimes}}}, execution: {{command: go}}}}")
        assert parsed.spec.framework == Framework("t", "", "3.5")
        assert parsed.notes == ()


PROBLEMS = [
    ("model_definition:\n  name: x\n", 1, "model_definition.execution", "missing"),
    (
        "model_definition:\n  execution:\n    compute_configuration: cpu\n",
        2,
        "model_definition.execution.command",
        "missing",
    ),
    ("model_definition:\n  execution:\n    command: ' '\n", 3, "model_definition.execution.command", "empty"),
    ("model_definition:\n  execution:\n    command:\n", 3, "model_definition.execution.command", "empty"),
    ("model_definition:\n  execution:\n    command: [a, b]\n", 3, "model_definition.execution.command", "not a list"),
    ("model_definition: go\n", 1, "model_definition", "a table of keys, not a single value"),
    ("model_defnition:\n  execution: {command: go}\n", 1, "model_defnition", "did you mean `model_definition`?"),
    (
        "model_definition:\n  execution:\n    command: go\n    comand: go\n",
        4,
        "model_definition.execution.comand",
        "did you mean `command`?",
    ),
    (SHORT + "training_data_referense: {}\n", 2, "training_data_referense", "did you mean `training_data_reference`?"),
    (SHORT + "colour: red\n", 2, "colour", "known here: model_definition, runyard, training_data_reference, "),
    (SHORT + "training_data_reference:\n  type: local\n", 2, "training_data_reference.source", "missing"),
    (
        SHORT + "training_data_reference:\n  source: {type: local}\n",
        3,
        "training_data_reference.source.bucket",
        "missing",
    ),
    (
        SHORT + "training_data_reference:\n  source: {bucket: ../etc}\n",
        3,
        "training_data_reference.source.bucket",
        "begins with a letter",
    ),
    (
        SHORT + "training_data_reference:\n  source: {bucket: <bucket>}\n",
        3,
        "training_data_reference.source.bucket",
        "begins with a letter",
    ),
    (
        SHORT + "training_data_reference:\n  source: {bucket: a/../b}\n",
        3,
        "training_data_reference.source.bucket",
        "without empty ones",
    ),
    (
        SHORT + "training_data_reference:\n  source: {bucket: a//b}\n",
        3,
        "training_data_reference.source.bucket",
        "without empty ones",
    ),
    (
        SHORT + "training_data_reference:\n  source: {bucket: a, type: swift}\n",
        3,
        "training_data_reference.source.type",
        "`swift` is none of the words",
    ),
    (
        SHORT + "training_data_reference:\n  source: {bucket: a, type: bluemix_objectstore}\n",
        3,
        "training_data_reference.source.type",
        "s3, local, mount_volume",
    ),
    (
        SHORT + "training_data_reference:\n  source: {bucket: a, type: local}\n  type: s3\n  connection: c\n",
        3,
        "training_data_reference.source.type",
        "differs",
    ),
    (
        SHORT + "training_data_reference:\n  source: {bucket: a}\n  type: s3\n",
        2,
        "training_data_reference.connection",
        "missing",
    ),
    (
        SHORT + "training_data_reference:\n  source: {bucket: a}\n  type: mount_volume\n",
        2,
        "training_data_reference.connection",
        "missing",
    ),
    (
        SHORT
        + "training_data_reference:\n  source: {bucket: a}\n  connection: {type: host_mount}\n  type: mount_volume\n",
        4,
        "training_data_reference.connection.path",
        "which folder",
    ),
    (
        SHORT + "training_data_reference:\n  source: {bucket: a}\n  connection: {path: cos}\n",
        4,
        "training_data_reference.connection.path",
        "absolute path",
    ),
    (
        SHORT + "training_data_reference:\n  source: {bucket: a}\n  connection: {path: /cos}\n  type: s3\n",
        4,
        "training_data_reference.connection.path",
        "Only `type: mount_volume`",
    ),
    (
        SHORT + "training_data_reference:\n  source: {bucket: a}\n  connection: c\n  type: local\n",
        4,
        "training_data_reference.connection",
        "takes no connection",
    ),
    (
        SHORT + "training_data_reference:\n  source: {bucket: a}\n  connection: {name: c, region: eu}\n",
        4,
        "training_data_reference.connection",
        "not both",
    ),
    (
        SHORT + "training_data_reference:\n  source: {bucket: a}\n  connection: {}\n",
        4,
        "training_data_reference.connection.endpoint_url",
        "missing",
    ),
    (
        SHORT + "training_data_reference:\n  source: {bucket: a}\n  connection: s3.example.com:900\n",
        4,
        "training_data_reference.connection.name",
        "name of a stored connection",
    ),
    (
        SHORT + "training_data_reference:\n  source: {bucket: a}\n  connection: {endpoint_url: s3.example.com}\n",
        4,
        "training_data_reference.connection.endpoint_url",
        "https://",
    ),
    (
        SHORT + "training_data_reference:\n- source: {bucket: a}\n- sauce: {bucket: b}\n",
        4,
        "training_data_reference[1].sauce",
        "did you mean `source`?",
    ),
    (SHORT + "training_results_reference:\n- target: {bucket: a}\n", 2, "training_results_reference", "not a list"),
]


@pytest.mark.parametrize(("text", "line", "path", "sentence"), PROBLEMS)
def test_problems_name_line_and_path(text: str, line: int, path: str, sentence: str) -> None:
    found = [problem for problem in problems(text) if problem.path == path]
    assert [problem.line for problem in found] == [line], problems(text)
    assert sentence in found[0].message


def test_all_problems_are_told_at_once() -> None:
    text = """\
model_definition:
  nmae: x
  framework: {name: [a], version: {b: c}}
  execution:
    compute_configuration: {name: huge, nodes: 0}
training_data_reference:
- connection: {access_key_id: A}
  source: {bucket: b}
training_results_reference: {target: {bucket: ' '}}
runyard: {priority: 101, grace: soon}
"""
    assert [(problem.line, problem.path) for problem in problems(text)] == [
        (2, "model_definition.nmae"),
        (3, "model_definition.framework.name"),
        (3, "model_definition.framework.version"),
        (4, "model_definition.execution.command"),
        (5, "model_definition.execution.compute_configuration.nodes"),
        (5, "model_definition.execution.compute_configuration.name"),
        (7, "training_data_reference[0].connection.endpoint_url"),
        (7, "training_data_reference[0].connection.secret_access_key"),
        (9, "training_results_reference.target.bucket"),
        (10, "runyard.priority"),
        (10, "runyard.grace"),
    ]


def test_an_image_that_cannot_be_one_is_told_with_all_other_problems() -> None:
    text = """\
model_definition:
  nmae: x
  framework: {name: custom, version: '../Evil:latest'}
  execution:
    command: go
    compute_configuration: {nodes: 0}
"""
    found = problems(text)
    assert [(problem.line, problem.path) for problem in found] == [
        (2, "model_definition.nmae"),
        (3, "model_definition.framework.version"),
        (6, "model_definition.execution.compute_configuration.nodes"),
    ]
    assert "'../Evil:latest' is no name of a container image: it has small letters" in found[1].message


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("", "This key is missing: with `custom` it is a container image."),
        (", version: [a]", "This must be text, not a list."),
    ],
    ids=["none", "a list"],
)
def test_a_custom_framework_without_an_image_has_one_problem(version: str, message: str) -> None:
    text = f"model_definition:\n  framework: {{name: custom{version}}}\n  execution: {{command: go}}\n"
    assert only(text) == (2, "model_definition.framework.version", message)


def test_data_references_of_one_name_are_refused() -> None:
    text = SHORT + "training_data_reference:\n- {name: a b, source: {bucket: x}}\n- {name: A-b, source: {bucket: y}}\n"
    line, path, message = only(text)
    assert (line, path) == (4, "training_data_reference[1].name")
    assert "name them apart" in message
