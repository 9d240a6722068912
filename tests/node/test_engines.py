"""What a node asks of a container engine, by each that can be had here; and how it is found."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard.core.containers import HOME_LABEL, Absent, Engine
from runyard.node.containers.engines import Client, find, look, surroundings
from tests.support.engines import IMAGE, RealEngine, running_engine

pytestmark = pytest.mark.timeout(300)  # an engine may have to be installed first
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the engines' folders of these tests need root")


@pytest.fixture(scope="module", params=["podman", "docker"])
def engine(request: pytest.FixtureRequest) -> Iterator[RealEngine]:
    with running_engine(request.param) as made:
        yield made


@needs_root
def test_an_engine_does_what_a_node_asks_of_it(engine: RealEngine) -> None:
    client = find(engine.kind, {**os.environ, **engine.env}, thoroughly=True)
    assert isinstance(client, Client)
    assert (client.engine.kind, client.engine.version >= (4, 0)) == (engine.kind, True)
    found = client.image(IMAGE)
    assert found is not None
    assert found[1] > 1 << 20
    assert client.image(found[0]) == found
    assert client.image("localhost/none:1") is None
    lines: list[str] = []
    code, words = client.pull("127.0.0.1:9/none:1", None, lines.append)
    assert code != 0
    assert words
    assert lines
    for home, name in (("h1", "box-a"), ("h1", "box-b"), ("h2", "box-c")):
        engine.run("create", "--name", name, "--label", f"{HOME_LABEL}={home}", IMAGE, "/bin/sh")
    assert sorted(client.boxes("h1")) == ["box-a", "box-b"]
    client.remove([])
    client.remove(["box-a", "box-b", "not-there"])
    assert (client.boxes("h1"), client.boxes("h2")) == ([], ["box-c"])
    engine.run("rm", "--force", "box-c")
    assert client.remove_image(found[0])
    assert client.image(IMAGE) is None


def a_command(folder: Path, name: str, text: str) -> dict[str, str]:
    """Variables of a node whose PATH begins with a folder that has such a command."""
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "CONTAINERS_STORAGE_CONF": "/etc/storage.conf"}


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("podman", "echo no such runtime >&2; exit 125", "does not answer: no such runtime"),
        ("podman", "echo nonsense", "does not answer: it says nothing"),
        ("docker", "echo 28.1", "its daemon does not answer at unix:///nowhere/docker.sock"),
    ],
)
def test_an_engine_that_does_not_answer_says_why(tmp_path: Path, kind: str, text: str, words: str) -> None:
    own = {**a_command(tmp_path, kind, text), "DOCKER_HOST": "unix:///nowhere/docker.sock"}
    found = look(kind, own)
    assert isinstance(found, Absent)
    assert words in found.why
    assert words in str(find(kind, own))


def test_its_version_is_read_from_its_words(tmp_path: Path) -> None:
    found = look("podman", a_command(tmp_path, "podman", "echo podman version 5.2.1-rc1"))
    assert isinstance(found, Engine)
    assert (found.version, found.path, str(found)) == ((5, 2), str(tmp_path / "podman"), "Podman 5.2")


def test_nothing_of_the_node_that_is_secret_reaches_an_engine() -> None:
    own = {
        "PATH": "/bin",
        "DOCKER_HOST": "unix:///d",
        "AWS_SECRET_ACCESS_KEY": "k",
        "RUNYARD_TOKEN": "t",
        "https_proxy": "p",
    }
    told = surroundings(own)
    assert (told["DOCKER_HOST"], told["https_proxy"]) == ("unix:///d", "p")
    assert not {"AWS_SECRET_ACCESS_KEY", "RUNYARD_TOKEN"} & told.keys()
