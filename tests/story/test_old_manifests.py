"""A manifest of the older service that asks for tensorflow 1.5: one sentence, one more command, and it runs."""

import json
from collections.abc import Iterator

import pytest

from tests.support.installation import Installation, running_installation, write_code
from tests.support.wheels import make_wheel, only_from

pytestmark = [pytest.mark.story, pytest.mark.timeout(300)]

OLD = """
model_definition:
  name: tf-mnist                     # need not be unique
  description: Digits
  author: {name: A, email: a@example.com}
  framework: {name: tensorflow, version: "1.5", runtimes: [{name: python, version: "3.5"}]}
  execution:
    command: python3 train.py
    compute_configuration: {name: k80, nodes: 1}
training_results_reference:
  name: mnist models
  target: {bucket: mnist-training-models}
  type: local
"""
FFDL = """
name: tf_tutorial
version: "1.0"
gpus: 0
cpus: 0.5
memory: 1Gb
storage: 1Gb
data_stores:
  - id: store
    type: mount_cos
    training_results: {container: results}
    connection: {auth_url: "http://127.0.0.1:1", user_name: "007", password: "p: #w"}
framework: {name: tensorflow, version: "1.5.0-py3", command: "python3 train.py"}
"""


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation whose package index has three versions of one framework."""
    root = tmp_path_factory.mktemp("old")
    for version in ("2.19.0", "2.20.0", "2.21.0"):
        make_wheel(
            root / "wheels", "tensorflow-cpu", version, {"tensorflow/__init__.py": f"__version__ = {version!r}\n"}
        )
    options = f"pip_options = {json.dumps(only_from(root / 'wheels'))}\n"
    with running_installation(root / "yard", "--fake-gpus", "1", settings=options) as installation:
        write_code(installation.folder / "model", {"train.py": "import tensorflow; print(tensorflow.__version__)"})
        (installation.folder / "old.yml").write_text(OLD)
        (installation.folder / "ffdl.yml").write_text(FFDL)
        yield installation


def test_the_refusal_leads_to_a_running_job(yard: Installation) -> None:
    refused = yard.cli("train", "model", "old.yml", check=4).stderr
    assert "tensorflow 1.5 cannot be had" in refused
    option = refused.split("submit again with ")[1].split(". ")[0].split()
    assert option == ["--framework", "tensorflow:2.21"]
    done = yard.cli("train", "model", "old.yml", *option, "--follow")
    assert "2.21.0\n" in done.stdout


def test_a_manifest_is_brought_over(yard: Installation) -> None:
    brought = yard.cli("generate-manifest", "--from", "old.yml")
    assert (
        "# The framework was tensorflow 1.5, which cannot be had here; tensorflow:2.21 is the nearest."
        in brought.stdout
    )
    assert "    version: '2.21'\n" in brought.stdout
    assert "to do:" not in brought.stderr
    (yard.folder / "new.yml").write_text(brought.stdout)
    assert "2.21.0\n" in yard.cli("train", "model", "new.yml", "--follow").stdout


def test_the_other_dialect_and_its_old_words(yard: Installation) -> None:
    document = yard.json("generate-manifest", "--from", "ffdl.yml")
    text = document["manifest"]
    for line in ("access_key_id: '007'", "secret_access_key: 'p: #w'", "endpoint_url: 'http://127.0.0.1:1'"):
        assert line in text
    assert "\nstorage:" not in text
    assert any("`storage` was taken out" in note for note in document["notes"])
    assert document["left"] == []
    (yard.folder / "again.yml").write_text(text)
    assert yard.json("generate-manifest", "--from", "again.yml")["notes"] == []


def test_what_is_left_to_do_is_told(yard: Installation) -> None:
    (yard.folder / "bad.yml").write_text(OLD.replace("name: k80, nodes: 1", "name: k8000, nodes: 1"))
    found = yard.cli("generate-manifest", "--from", "bad.yml")
    assert "# TO DO: model_definition.execution.compute_configuration.name: " in found.stdout
    assert "to do: model_definition.execution" in found.stderr
    (yard.folder / "none.yml").write_text("a: 1\n")
    assert "no manifest" in yard.cli("generate-manifest", "--from", "none.yml", check=4).stderr
    assert yard.cli("generate-manifest", "experiments", "--from", "old.yml", check=4).stdout == ""
    assert "no file" not in yard.cli("generate-manifest", "--from", "missing.yml", check=2).stdout


def test_the_schema_is_one(yard: Installation) -> None:
    schema = yard.json("generate-manifest", "--schema")
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert {"service", "ffdl", "runyard"} <= set(schema["$defs"])
