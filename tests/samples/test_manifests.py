"""Every manifest that ships says what its page says, and one with words in angle brackets left in it is refused."""

from pathlib import Path

import pytest

from runyard.core.errors import ManifestError
from runyard.core.resources import DEFAULT_CONFIGURATIONS
from runyard.core.spec import StoreKind
from runyard.manifest import Parsed, compile_regex, parse
from tools.samples import ALL

ROOT = Path(__file__).resolve().parents[2]
IN_BOTH_DIALECTS = [
    "numpy-softmax",
    "metrics",
    "ddp",
    "sweep",
    "keras-npz",
    "failing/wrong-command",
    "failing/missing-data",
    "failing/out-of-memory",
    "failing/hang",
]
COMPLETE = [
    "samples/mnist/manifest.yml",
    *(f"samples/{name}/{file}" for name in IN_BOTH_DIALECTS for file in ("manifest.yml", "manifest-ffdl.yml")),
    *(
        f"bench/models/{name}/manifest.yml"
        for name in ("chatty", "on_gpu", "stamp", "steady", "stubborn", "train", "trivial")
    ),
]
TO_BE_FILLED = ["samples/mnist/manifest-s3.yml", "samples/mnist/manifest-ffdl.yml"]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def read(text: str) -> Parsed:
    return parse(text, configurations=DEFAULT_CONFIGURATIONS)


def test_none_is_forgotten_here() -> None:
    found = {str(path.relative_to(ROOT)) for room in ("samples", "bench") for path in (ROOT / room).rglob("*.yml")}
    assert found == {*COMPLETE, *TO_BE_FILLED}


@pytest.mark.parametrize("name", COMPLETE)
def test_a_complete_manifest_needs_the_embedded_store_alone(name: str) -> None:
    parsed = read(text_of(name))
    assert parsed.notes == ()
    assert {place.kind for place in (*parsed.spec.data, parsed.spec.results)} == {StoreKind.local}


@pytest.mark.parametrize("name", TO_BE_FILLED)
def test_a_manifest_to_be_filled_is_refused_until_it_is(name: str) -> None:
    with pytest.raises(ManifestError, match="must be an address"):
        read(text_of(name))


@pytest.mark.parametrize("name", TO_BE_FILLED)
def test_a_filled_manifest_asks_for_the_same_training(name: str) -> None:
    filled = text_of(name).replace("<endpoint-url>", "https://s3.example.com")
    parsed = read(filled.replace("<access-key-id>", "an-id").replace("<secret-access-key>", "a-secret"))
    local = read(text_of(COMPLETE[0]))
    assert parsed.spec.command == local.spec.command
    assert parsed.spec.request.resources.gpus == local.spec.request.resources.gpus == 1
    assert parsed.spec.data[0].connection.endpoint_url == "https://s3.example.com"
    assert {secret.secret_access_key for secret in parsed.secrets.values()} == {"a-secret"}


def test_the_expression_for_metrics_reads_the_lines_that_the_program_prints() -> None:
    filled = text_of("samples/mnist/manifest-ffdl.yml").replace("<endpoint-url>", "https://s3.example.com")
    groups = dict(read(filled).spec.metrics.groups)
    line = "step 200/938  train loss 0.2346  test loss 0.1914  test accuracy 0.9450"
    found = compile_regex(groups["test"]).search(line)
    assert found is not None
    assert found.groupdict() == {"step": "200", "loss": "0.1914", "accuracy": "0.9450"}


@pytest.mark.parametrize("name", IN_BOTH_DIALECTS)
def test_the_dialects_are_told_apart_and_mean_the_same_program(name: str) -> None:
    one, two = (text_of(f"samples/{name}/{file}") for file in ("manifest.yml", "manifest-ffdl.yml"))
    assert "model_definition:" in one
    assert "data_stores:" in two
    first, second = read(one).spec, read(two).spec
    assert first.name == second.name
    assert first.command.split()[:2] == second.command.split()[:2]
    assert [place.bucket for place in first.data] == [place.bucket for place in second.data]
    assert first.results.bucket == second.results.bucket


def test_every_run_of_the_samples_tool_names_a_manifest_that_is_there() -> None:
    own = {path for path in COMPLETE if path.startswith("samples/")}
    assert {f"samples/{sample.manifest}" for sample in ALL} == own
