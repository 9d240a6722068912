"""Names of images, when a registry is asked, and what engines' words on failures mean."""

import base64
import json

import pytest

from runyard.core.errors import Refused
from runyard.core.images import Image, PullFault, fault_of, fault_sentence, must_ask, read_image, registry_file

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.11-slim", "docker.io/library/python:3.11-slim"),
        ("pytorch/pytorch:2.4.0", "docker.io/pytorch/pytorch:2.4.0"),
        ("ghcr.io/lab/net", "ghcr.io/lab/net:latest"),
        ("host:5000/a/b:t", "host:5000/a/b:t"),
        ("localhost/tiny:1", "localhost/tiny:1"),
        ("localhost:5000/tiny", "localhost:5000/tiny:latest"),
        (f"nvcr.io/nvidia/pytorch@{DIGEST}", f"nvcr.io/nvidia/pytorch@{DIGEST}"),
        (f"nvcr.io/nvidia/pytorch:24.01@{DIGEST}", f"nvcr.io/nvidia/pytorch@{DIGEST}"),
    ],
)
def test_a_name_is_read_as_docker_does(text: str, whole: str) -> None:
    image = read_image(text)
    assert str(image) == whole
    assert read_image(whole) == image


@pytest.mark.parametrize(
    "text",
    ["", "Net", "a b", "-rm", "--privileged", "a:", "a@sha256:12", "a/../b", "host:port/a", "x" * 600, "a\nb", "a:b:c"],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="no name of a container image"):
        read_image(text)


@pytest.mark.parametrize(
    ("name", "pull", "there", "allowed", "asks"),
    [
        ("a:1", "missing", False, True, True),
        ("a:1", "missing", True, True, False),
        ("a:1", "missing", True, False, True),
        ("a:1", "always", True, True, True),
        (f"a@{DIGEST}", "always", True, True, False),
        (f"a@{DIGEST}", "always", True, False, True),
        ("a:1", "never", False, True, False),
        ("a:1", "never", True, False, False),
        ("localhost/a:1", "always", False, True, False),
    ],
)
def test_when_the_registry_is_asked(name: str, pull: str, there: bool, allowed: bool, asks: bool) -> None:
    assert must_ask(read_image(name), pull, there=there, allowed=allowed) is asks


def test_the_file_for_a_registry() -> None:
    told = json.loads(registry_file("ghcr.io", "ada:pass:word\n"))
    assert base64.b64decode(told["auths"]["ghcr.io"]["auth"]) == b"ada:pass:word"
    assert "https://index.docker.io/v1/" in registry_file("docker.io", "ada:word")
    for wrong in ("word", ":word", "ada:", ""):
        with pytest.raises(Refused) as refusal:
            registry_file("ghcr.io", wrong)
        assert not wrong or wrong not in refusal.value.message


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("reading manifest 9 in 127.0.0.1:5/a: manifest unknown", PullFault.missing),
        ("Error response from daemon: manifest for a:9 not found: manifest unknown", PullFault.missing),
        ("Head http://127.0.0.1:5/v2/a/manifests/1: no basic auth credentials", PullFault.denied),
        ("unable to retrieve auth token: invalid username/password: unauthorized", PullFault.denied),
        ("pull access denied for a, repository does not exist or may require 'docker login'", PullFault.denied),
        ("pinging container registry 127.0.0.1:9: dial tcp: connect: connection refused", PullFault.unreachable),
        ("lookup nowhere.example: no such host", PullFault.unreachable),
        ("http: server gave HTTP response to HTTPS client", PullFault.insecure),
        ("writing blob: no space left on device", PullFault.disk),
        ("something else", PullFault.other),
    ],
)
def test_what_an_engines_words_mean(words: str, fault: PullFault) -> None:
    assert fault_of(words) is fault
    sentence = fault_sentence(Image("ghcr.io", "a/b", "1"), fault, words, secret=False)
    assert words in sentence
    assert "ghcr.io" in sentence
