"""Dialect two, FfDL's."""

from __future__ import annotations

import pytest

from runyard.core.resources import Resources
from runyard.core.spec import (
    Connection,
    Credentials,
    EvaluationMetrics,
    Framework,
    Location,
    ResourceRequest,
    RunSpec,
    StoreKind,
)
from tests.manifest.reading import FFDL, only, problems, read, spec

FRAMEWORK = "framework: {command: go}\n"


def test_a_whole_manifest() -> None:
    connection = Connection(endpoint_url="http://10.0.0.5:30851", region="us")
    parsed = read(FFDL)
    assert parsed.spec == RunSpec(
        name="tf_tutorial",
        command="python3 train.py --images ${DATA_DIR}/images.gz",
        request=ResourceRequest(Resources(2, 500, 954), None, 2, "nvidia-TeslaV100"),
        data=(
            Location(
                StoreKind.s3,
                Connection(connection.endpoint_url, connection.region, secret="data/0"),
                "tf_training_data",
                "",
                "my-store",
            ),
        ),
        results=Location(
            StoreKind.s3,
            Connection(connection.endpoint_url, connection.region, secret="results"),
            "tf_trained_model",
            "",
            "my-store",
        ),
        framework=Framework("tensorflow", "1.5.0-py3"),
        metrics=EvaluationMetrics("tensorboard", "$JOB_STATE_DIR/logs/tb"),
        description="Digits",
        dialect="ffdl",
    )
    assert parsed.secrets == {"data/0": Credentials("KEYID", "SECRET"), "results": Credentials("KEYID", "SECRET")}
    assert parsed.notes == ()


@pytest.mark.parametrize(
    ("sizes", "resources"),
    [
        ("", Resources(0, 1000, 2048)),
        ("gpus: 0", Resources(0, 1000, 2048)),
        ("gpus: 2", Resources(2, 12000, 24576)),
        ("gpus: 1.0", Resources(1, 6000, 12288)),
        ("cpus: 0.5\nmemory: 300MiB", Resources(0, 500, 300)),
        ("cpus: 8\nmemory: 16Gb", Resources(0, 8000, 15259)),
        ("cpus: 0.0001\nmemory: 1GiB", Resources(0, 1, 1024)),
        ("cpus: .25\nmemory: 512MB", Resources(0, 250, 489)),
        ("cpus: 2.\nmemory: 1.5 GiB", Resources(0, 2000, 1536)),
    ],
)
def test_sizes(sizes: str, resources: Resources) -> None:
    assert spec(f"{sizes}\n{FRAMEWORK}").request.resources == resources


def test_without_data_stores_results_go_to_the_embedded_store() -> None:
    found = spec(FRAMEWORK)
    assert found.data == ()
    assert found.results == Location(StoreKind.local, Connection(), "results", "", "results")


def test_several_data_stores() -> None:
    parsed = read(
        FRAMEWORK
        + """\
data_stores:
- id: one
  type: s3_datastore
  training_data: {container: a/b}
  connection: {type: s3_datastore, endpoint_url: https://h, access_key_id: I, secret_access_key: S}
- id: two
  type: local
  training_data: c
  training_results: d
- id: three
  type: mount_volume
  training_data: {container: e}
  connection: {type: host_mount, name: host-mount, path: /cosdata}
"""
    )
    assert parsed.spec.data == (
        Location(StoreKind.s3, Connection(endpoint_url="https://h", secret="data/0"), "a", "b", "one"),
        Location(StoreKind.local, Connection(), "c", "", "two"),
        Location(StoreKind.volume, Connection(path="/cosdata"), "e", "", "three"),
    )
    assert parsed.spec.results == Location(StoreKind.local, Connection(), "d", "", "two")
    assert parsed.secrets == {"data/0": Credentials("I", "S")}


def test_a_custom_framework_is_an_image() -> None:
    text = "framework: {name: custom, version: 'registry.example.com/a/b:0925', command: go}"
    assert spec(text).framework == Framework("custom", "registry.example.com/a/b:0925")


def test_keys_without_effect_have_a_note() -> None:
    parsed = read(
        """\
        storage: 10GiB
        framework: {name: t, image_tag: x, command: go}
        evaluation_metrics: {type: tensorboard, image_tag: y, eventTypes: [scalars], line_lookahead: 4}
        """
    )
    assert [note.split(" ")[0] for note in parsed.notes] == [
        "`storage`",
        "`framework.image_tag`",
        "`evaluation_metrics.image_tag`",
        "`evaluation_metrics.eventTypes`",
        "`evaluation_metrics.line_lookahead`",
    ]
    assert all("has no effect" in note for note in parsed.notes)


STORE = FRAMEWORK + "data_stores:\n- "
PROBLEMS = [
    ("gpus: 1\ndata_stores: []\n", 1, "framework", "missing"),
    ("framework: {name: x}\n", 1, "framework.command", "missing"),
    ("gpus: -1\n" + FRAMEWORK, 1, "gpus", "from 0 to 1000"),
    ("gpus: 0.5\n" + FRAMEWORK, 1, "gpus", "a whole number"),
    ("gpus: two\n" + FRAMEWORK, 1, "gpus", "a whole number"),
    ("gpus: '2'\n" + FRAMEWORK, 1, "gpus", "without quotes"),
    ("gpus: [1]\n" + FRAMEWORK, 1, "gpus", "not a list"),
    ("gpus: 1e9\n" + FRAMEWORK, 1, "gpus", "from 0 to 1000"),
    ("gpus: 99999999999999999999999\n" + FRAMEWORK, 1, "gpus", "from 0 to 1000"),
    ("cpus: 0\n" + FRAMEWORK, 1, "cpus", "above 0"),
    ("cpus: -0.5\n" + FRAMEWORK, 1, "cpus", "above 0"),
    ("cpus: -.5\n" + FRAMEWORK, 1, "cpus", "above 0"),
    ("cpus: .\n" + FRAMEWORK, 1, "cpus", "above 0"),
    ("cpus: 1e999999999\n" + FRAMEWORK, 1, "cpus", "at most 100000"),
    ("cpus: nan\n" + FRAMEWORK, 1, "cpus", "above 0"),
    ("memory: 1024\n" + FRAMEWORK, 1, "memory", "with its unit"),
    ("memory: 1XB\n" + FRAMEWORK, 1, "memory", "with its unit"),
    ("memory: -1Gb\n" + FRAMEWORK, 1, "memory", "with its unit"),
    ("memory: 0Gb\n" + FRAMEWORK, 1, "memory", "above zero"),
    ("memory: 999999TiB\n" + FRAMEWORK, 1, "memory", "at most"),
    ("memory: {a: 1}\n" + FRAMEWORK, 1, "memory", "a size, not a table"),
    ("learners: 0\n" + FRAMEWORK, 1, "learners", "from 1"),
    ("memry: 1Gb\n" + FRAMEWORK, 1, "memry", "did you mean `memory`?"),
    (STORE + "{id: a, type: local, training_data: b}\n", 3, "data_stores[0].training_results", "missing in all"),
    (
        STORE + "{type: local, training_results: a}\n- {type: local, training_results: b}\n",
        4,
        "data_stores[1].training_results",
        "one place",
    ),
    (STORE + "{type: local, training_results: a}\n- {type: local}\n", 4, "data_stores[1]", "neither"),
    (STORE + "{type: mount_cos, training_results: a}\n", 3, "data_stores[0].connection", "missing"),
    (STORE + "{type: nfs, training_results: a}\n", 3, "data_stores[0].type", "none of the words"),
    (STORE + "{type: local, training_results: {}}\n", 3, "data_stores[0].training_results.container", "missing"),
    (
        STORE + "{training_results: a, connection: {auth_url: http://h, endpoint_url: http://h}}\n",
        3,
        "data_stores[0].connection.endpoint_url",
        "given twice",
    ),
    (
        STORE + "{training_results: a, connection: {path: /x, password: p}}\n",
        3,
        "data_stores[0].connection.password",
        "no credentials",
    ),
    ("framework: {name: custom, command: go}\n", 1, "framework.version", "container image"),
    ("framework: {name: custom, version: Net, command: go}\n", 1, "framework.version", "no name of a container image"),
    (FRAMEWORK + "evaluation_metrics: {in: x}\n", 2, "evaluation_metrics.type", "missing"),
    (FRAMEWORK + "evaluation_metrics: {type: magic}\n", 2, "evaluation_metrics.type", "none of the words"),
    (FRAMEWORK + "model_definition: {}\n", 1, "framework", "choose one"),
]


@pytest.mark.parametrize(("text", "line", "path", "sentence"), PROBLEMS)
def test_problems_name_line_and_path(text: str, line: int, path: str, sentence: str) -> None:
    found = [problem for problem in problems(text) if problem.path == path]
    assert [problem.line for problem in found] == [line], problems(text)
    assert sentence in found[0].message


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\n", "This is no manifest"),
        ("{}\n", "This is no manifest"),
        ("runyard: {priority: 5}\n", "This is no manifest"),
        ("- a\n", "not a list"),
        ("just words\n", "not a single value"),
        ("~\n", "not nothing"),
        ("training_references: []\n", "an experiment"),
        ("framework: {name: t}\ntraining_data_reference: {}\n", "a training definition"),
    ],
)
def test_what_is_no_manifest_is_told(text: str, sentence: str) -> None:
    assert sentence in only(text)[2]


def test_a_misspelt_mark_still_tells_the_dialect() -> None:
    found = problems("framewrk: {command: go}\n")
    assert (found[0].path, found[1].path) == ("framewrk", "framework")
    assert "did you mean `framework`?" in found[0].message
