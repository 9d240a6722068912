"""Container images: their names, and what a failed pull means.

The grammar of names is that of the OCI distribution specification (``<name>``, ``<tag>``) and of
``github.com/distribution/reference``: ``[REGISTRY[:PORT]/]PATH[:TAG][@DIGEST]``.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from runyard.core.errors import Refused

PULLS: Final = ("missing", "always", "never")
"""When an image is fetched: where the machine lacks it, for each submission, or not at all."""
LOCAL: Final = "localhost"
"""The registry of images that were made on the machine: they are never fetched."""
DOCKER_HUB: Final = "docker.io"
_HUB_KEY: Final = "https://index.docker.io/v1/"

_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::[0-9]{1,5})?"
)
_PATH = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Image:
    """The full name of an image. ``digest``: its content's, empty where the name says none; ``tag`` is empty then."""

    registry: str
    path: str
    tag: str
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.registry}/{self.path}" + (f"@{self.digest}" if self.digest else f":{self.tag}")

    @property
    def is_local(self) -> bool:
        """Whether it can only be there, or not: no registry has it."""
        return self.registry == LOCAL

    @property
    def is_pinned(self) -> bool:
        """Whether its name says its content, so that it need never be fetched twice."""
        return bool(self.digest)


def read_image(text: str) -> Image:
    """Read a name as Docker does: without a registry it is Docker Hub's, without a tag ``latest``. Raises
    :class:`Refused`."""
    name, at, digest = text.partition("@")
    if at and _DIGEST.fullmatch(digest) is None:
        raise _no_image(text, "what follows `@` is `sha256:` and 64 hexadecimal digits")
    first, slash, rest = name.partition("/")
    registry, path = (first, rest) if slash and _is_registry(first) else (DOCKER_HUB, name)
    path, colon, tag = path.partition(":")
    if _DOMAIN.fullmatch(registry) is None or _PATH.fullmatch(path) is None or len(text) > 512:
        raise _no_image(text, "it has small letters, digits, `.`, `_`, `-` and `/`")
    if colon and _TAG.fullmatch(tag) is None:
        raise _no_image(text, "a tag has letters, digits, `.`, `_` and `-`, 128 at most")
    if registry == DOCKER_HUB and "/" not in path:
        path = "library/" + path
    return Image(registry, path, "" if digest else tag or "latest", digest)


def _is_registry(word: str) -> bool:
    return word == LOCAL or "." in word or ":" in word


def _no_image(text: str, rule: str) -> Refused:
    return Refused(
        f"{text[:80]!r} is no name of a container image: {rule}. Write it as REGISTRY/PATH:TAG, such as "
        "docker.io/pytorch/pytorch:2.4.0-cuda12.1-cudnn9-runtime, or localhost/NAME:TAG for one of the machine's own."
    )


def must_ask(image: Image, pull: str, *, there: bool, allowed: bool) -> bool:
    """Whether the registry has to be asked. ``there``: the machine has the image; ``allowed``: nobody else's
    credentials have brought it there."""
    if image.is_local or pull == "never":
        return False
    if not there or not allowed:
        return True
    return pull == "always" and not image.is_pinned


def registry_file(registry: str, credentials: str) -> str:
    """The text of a file with the credentials (``USER:PASSWORD``) for a registry, as ``containers-auth.json(5)`` and
    the ``config.json`` of Docker have them. Raises :class:`Refused`, quoting nothing."""
    user, colon, password = credentials.partition(":")
    if not user or not colon or not password.strip():
        raise Refused("A secret for a registry is USER:PASSWORD, or USER:TOKEN: store it again in that form.")
    key = _HUB_KEY if registry == DOCKER_HUB else registry
    known = {registry: {"auth": base64.b64encode(f"{user}:{password.rstrip()}".encode()).decode()}}
    return json.dumps({"auths": {**known, key: known[registry]}})


class PullFault(StrEnum):
    """Why an image could not be fetched."""

    missing = "missing"
    denied = "denied"
    unreachable = "unreachable"
    insecure = "insecure"
    disk = "disk"
    other = "other"


_FAULTS: Final = (
    (PullFault.disk, re.compile(r"no space left|disk quota", re.I)),
    (PullFault.insecure, re.compile(r"HTTP response to HTTPS client|certificate|x509", re.I)),
    (
        PullFault.denied,
        re.compile(r"unauthorized|authentication required|access denied|denied:|no basic auth|\b40[13]\b", re.I),
    ),
    (PullFault.missing, re.compile(r"manifest unknown|name unknown|not found|does not exist|no such image", re.I)),
    (
        PullFault.unreachable,
        re.compile(
            r"connection (?:refused|reset)|no such host|network is unreachable|no route to host|time(?:d )?out|"
            r"unexpected EOF|\b5\d\d\b|temporary failure|server misbehaving|pinging container registry|deadline",
            re.I,
        ),
    ),
)


def fault_of(words: str) -> PullFault:
    """What an engine's words on a failed pull mean. (Each engine and version has its own, with parts in common.)"""
    return next((fault for fault, pattern in _FAULTS if pattern.search(words)), PullFault.other)


def fault_sentence(image: Image, fault: PullFault, words: str, *, secret: bool) -> str:
    """What to tell a user. ``secret``: the manifest names credentials."""
    quoted = f" (The engine says: {words})" if words else ""
    key = (
        "the secret that `runyard.registry` names"
        if secret
        else "name a secret with USER:PASSWORD in `runyard.registry`"
    )
    sentences = {
        PullFault.missing: f"The registry {image.registry} has no image {image}: check its path and tag.",
        PullFault.denied: f"The registry {image.registry} keeps {image} for those who may have it, or has no such "
        f"image: check its path and tag, and {key}.",
        PullFault.unreachable: f"The registry {image.registry} could not be reached from the machine for {image}.",
        PullFault.insecure: f"The registry {image.registry} does not prove who it is by TLS: the operator lets the "
        "container engine trust it, or names it there as insecure.",
        PullFault.disk: f"The machine's disk has no room for the image {image}.",
        PullFault.other: f"The image {image} could not be fetched.",
    }
    return sentences[fault] + quoted
