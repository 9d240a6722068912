"""Container images: what is refused before anything waits, and what the machine that stages them is told."""

import pytest

from runyard.core.errors import ManifestError, Refused
from runyard.core.reasons import Reason
from runyard.core.spec import EnvironmentRequest
from runyard.engine import stage
from runyard.engine.orders import secret_context
from runyard.ports.executor import StageRequest
from runyard.ports.secrets import SecretRecord
from runyard.ports.store import RunQuery
from tests.engine.yard import Yard, manifest

CUSTOM = "  framework: {{name: custom, version: '{}'}}\n  execution:"


def in_image(name: str, more: str = "") -> str:
    return manifest().replace("  execution:", CUSTOM.format(name)) + more


def keep(yard: Yard, name: str, value: str) -> None:
    sealed = yard.fakes.vault.seal(value.encode(), secret_context("acme", name))
    yard.fakes.store.put_secret(SecretRecord("acme", name, yard.now, sealed))


def test_a_container_needs_a_machine_with_an_engine(yard: Yard) -> None:
    with pytest.raises(Refused, match="No machine can run containers") as refusal:
        yard.submit(in_image("ghcr.io/lab/net:3"))
    assert "apt-get install podman" in refusal.value.message
    assert yard.fakes.store.runs(RunQuery(None)) == []


def test_an_image_goes_to_a_machine_that_has_an_engine_with_what_its_registry_asks(yard: Yard) -> None:
    yard.join("n2", features=("container",))
    with pytest.raises(Refused, match="secrets add HUB"):
        yard.submit(in_image("lab/net", "runyard: {registry: HUB}\n"))
    keep(yard, "HUB", "ada:sesame-7")
    run = yard.submit(in_image("lab/net", "runyard: {registry: HUB, pull: always}\n"))[0]
    stage.stage(yard.world, yard.run(run).spec_id)
    request = yard.fakes.executor.of(StageRequest)[-1]
    assert request.node_id == "n2"
    assert request.environment == EnvironmentRequest(image="docker.io/lab/net:latest", pull="always", registry="HUB")
    assert request.registry == "ada:sesame-7"
    assert request.warm is None
    assert "sesame-7" not in repr(request)


def test_credentials_that_are_gone_when_the_image_is_staged_end_the_run(yard: Yard) -> None:
    yard.join("n2", features=("container",))
    keep(yard, "HUB", "ada:sesame-7")
    run = yard.submit(in_image("lab/net", "runyard: {registry: HUB}\n"))[0]
    yard.fakes.store.delete_secret("acme", "HUB")
    stage.stage(yard.world, yard.run(run).spec_id)
    assert Reason.secret_missing.value in repr(yard.run(run).state)
    assert yard.fakes.executor.of(StageRequest) == []


def test_what_is_no_image_is_a_problem_of_the_manifest(yard: Yard) -> None:
    yard.join(features=("container",))
    with pytest.raises(ManifestError) as error:
        yard.submit(in_image("Net:1"))
    assert [each.path for each in error.value.problems] == ["model_definition.framework.version"]
    assert "no name of a container image" in error.value.problems[0].message


@pytest.mark.parametrize(
    ("image", "more", "words"),
    [
        ("net:1", "runyard: {python: /usr/bin/python3}\n", "brings its own Python"),
        (None, "runyard: {pull: always}\n", "are about container images"),
    ],
)
def test_what_makes_no_sense_with_or_without_an_image(yard: Yard, image: str | None, more: str, words: str) -> None:
    yard.join(features=("container",))
    with pytest.raises(Refused, match=words):
        yard.submit(manifest() + more if image is None else in_image(image, more))
