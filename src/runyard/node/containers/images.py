"""Images: made ready while runs wait, with the engine's words as their evidence; who brought which, and what may go.

An engine keeps its images for everybody on the machine. One that came by somebody's credentials is given to nobody else
before the registry has said that they may have it.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from typing import Final

import msgspec

from runyard.core.errors import Refused
from runyard.core.images import Image, PullFault, fault_of, fault_sentence, must_ask, read_image, registry_file
from runyard.core.reasons import Reason
from runyard.node.cache import remove_tree
from runyard.node.containers.engines import ImageStore
from runyard.node.environments.faults import EnvironmentFault
from runyard.node.environments.pip import Phase
from runyard.node.evidence import Evidence, human
from runyard.node.home import write_whole
from runyard.wire.orders import Environment

PASSING: Final = (PullFault.unreachable, PullFault.disk)
"""What may be otherwise in a while."""
_LAYER: Final = re.compile(r"Copying blob |[0-9a-f]{12}: Pulling fs layer")
_DONE: Final = re.compile(r"Copying blob \S+ (?:done|\[-+\])|[0-9a-f]{12}: (?:Pull complete|Already exists)")
_LAST: Final = re.compile(r"Copying config |Writing manifest|Status: ")


class Brought(msgspec.Struct, frozen=True):
    """An image that this node fetched. ``used_at``: seconds since 1970; ``by``: marks of the credentials with which it
    came, or which the registry accepted for it; empty: everybody may have it."""

    name: str
    size: int
    used_at: float
    by: tuple[str, ...] = ()


class Register(msgspec.Struct):
    """The file of what was brought, by image id. ``salt``: for the marks."""

    salt: str
    images: dict[str, Brought] = {}


class Images:
    """Makes images ready, one fetch of a name at a time. ``folder``: the node's own, for the register and for files
    with credentials while they are needed."""

    def __init__(self, store: ImageStore, folder: str) -> None:
        self._store = store
        self._path = f"{folder}/images.json"
        self._private = f"{folder}/registry-"
        self._lock = threading.Lock()
        self._fetching: dict[str, tuple[threading.Lock, int]] = {}
        """The names that are being made ready, and how many wait for each."""
        for left in [name for name in os.listdir(folder) if name.startswith("registry-")]:
            remove_tree(f"{folder}/{left}")  # of a node that was killed
        if not os.path.exists(self._path):
            write_whole(self._path, msgspec.json.encode(Register(secrets.token_hex(16))))

    def has(self, image: str) -> bool:
        """Whether an image is there, by its id. An engine that does not answer is taken at its last word."""
        try:
            return self._store.image(image) is not None
        except OSError:
            return True

    def ready(self, asked: Environment, evidence: Evidence, phase: Phase) -> tuple[str, str, int]:
        """Have the image that is asked for: its full name, its id, and the bytes that were fetched.

        Raises :class:`EnvironmentFault`.
        """
        try:
            image = read_image(asked.image)
        except Refused as error:
            raise EnvironmentFault(error.message) from None
        try:
            with self._turn(str(image)):
                return (str(image), *self._ready(image, asked, evidence, phase))
        except OSError as error:
            words = f"The container engine does not answer: {error.strerror or error}."
            raise EnvironmentFault(words, Reason.staging_failed) from None

    @contextmanager
    def _turn(self, name: str) -> Generator[None]:
        with self._lock:
            turn, count = self._fetching.get(name, (threading.Lock(), 0))
            self._fetching[name] = (turn, count + 1)
        try:
            with turn:
                yield
        finally:
            with self._lock:
                turn, count = self._fetching.pop(name)
                if count > 1:
                    self._fetching[name] = (turn, count - 1)

    def _ready(self, image: Image, asked: Environment, evidence: Evidence, phase: Phase) -> tuple[str, int]:
        there, register = self._store.image(str(image)), self._read()
        mark = self._mark(register, asked.registry)
        known = None if there is None else register.images.get(there[0])
        allowed = known is None or not known.by or mark in known.by
        if not must_ask(image, asked.pull, there=there is not None, allowed=allowed):
            if there is None or not allowed:
                raise EnvironmentFault(_not_here(image, asked.pull))
            evidence.note(f"The image {image} is on this machine ({_short(there[0])}, {human(there[1])}).")
            self._note(there[0], image, there[1], None)
            return there[0], 0
        self._fetch(image, asked.registry, evidence, phase)
        found = self._store.image(str(image))
        if found is None:
            raise EnvironmentFault(f"The image {image} was fetched, and is not there.", Reason.staging_failed)
        is_new = there is None or there[0] != found[0]
        evidence.note(f"The image {image} is {_short(found[0])}, {human(found[1])}{'' if is_new else ', as before'}.")
        self._note(found[0], image, found[1], mark)
        return found[0], found[1] if is_new else 0

    def _fetch(self, image: Image, credentials: str | None, evidence: Evidence, phase: Phase) -> None:
        evidence.note(f"The image {image} is asked for at {image.registry}.")
        phase(f"pulling image {image}")
        layers = {"there": 0, "done": 0}

        def line(text: str) -> None:
            evidence.note(f"  {text}")
            told = _progress(layers, text)
            if told:
                phase(f"pulling image {image}, {told}")

        folder = f"{self._private}{secrets.token_hex(8)}"
        try:
            if credentials is not None:
                os.mkdir(folder, 0o700)
                write_whole(f"{folder}/config.json", registry_file(image.registry, credentials).encode())
                os.chmod(f"{folder}/config.json", 0o600)
            code, words = self._store.pull(str(image), None if credentials is None else folder, line)
        except Refused as error:
            raise EnvironmentFault(error.message) from None
        finally:
            if credentials is not None:
                remove_tree(folder)
        if code != 0:
            fault = fault_of(words)
            sentence = fault_sentence(image, fault, words, secret=credentials is not None)
            reason = Reason.staging_failed if fault in PASSING else Reason.environment_failed
            raise EnvironmentFault(sentence, reason)

    # ------------------------------------------------------------------------------------------------------ register

    def _brought(self) -> dict[str, Brought]:
        """The images that this node fetched and that are still there, by id."""
        return {image: each for image, each in self._read().images.items() if self.has(image)}

    def size(self) -> int:
        """Bytes of the images that came through this node, as their engine tells them (layers that several share count
        for each)."""
        return sum(each.size for each in self._read().images.values())

    def clear(
        self, may_go: Callable[[Brought], bool], in_use: Collection[str], *, look_only: bool = False
    ) -> tuple[int, int]:
        """Remove what this node brought, is not in use and may go, or only look: how many, and their bytes."""
        count, size = 0, 0
        for image, each in self._brought().items():
            if image in in_use or not may_go(each) or not (look_only or self._removed(image)):
                continue
            count, size = count + 1, size + each.size
        return count, size

    def _removed(self, image: str) -> bool:
        try:
            gone = self._store.remove_image(image)
        except OSError:
            return False
        if gone:
            self._forget(image)
        return gone

    def _mark(self, register: Register, credentials: str | None) -> str:
        """What tells credentials apart without telling them."""
        if credentials is None:
            return ""
        return hashlib.scrypt(credentials.encode(), salt=register.salt.encode(), n=1 << 12, r=8, p=1, dklen=16).hex()

    def _read(self) -> Register:
        with open(self._path, "rb") as file:
            return msgspec.json.decode(file.read(), type=Register)

    def _note(self, image: str, name: Image, size: int, mark: str | None) -> None:
        """It was used now; ``mark``: and fetched with these credentials (empty: with none; None: it was there)."""
        with self._lock:
            register = self._read()
            old = register.images.get(image)
            if mark is None and old is None:
                return  # the operator's own
            by = old.by if old is not None else ()
            if mark is not None:
                by = tuple(dict.fromkeys((*by, mark))) if mark and (old is None or by) else ()
            register.images[image] = Brought(str(name), size, time.time(), by)
            write_whole(self._path, msgspec.json.encode(register))

    def _forget(self, image: str) -> None:
        with self._lock:
            register = self._read()
            register.images.pop(image, None)
            write_whole(self._path, msgspec.json.encode(register))


def _progress(layers: dict[str, int], line: str) -> str:
    """How far a pull is, from one of an engine's lines; empty when it tells nothing of that."""
    if _DONE.search(line):
        layers["done"] += 1
    elif _LAYER.search(line):
        layers["there"] += 1
    elif _LAST.search(line):
        return "unpacking"
    else:
        return ""
    return f"{layers['done']} of {max(layers.values())} layers"


def _not_here(image: Image, pull: str) -> str:
    if image.is_local:
        return (
            f"The machine has no image {image}, and images of `localhost` are never fetched: "
            "build or import it there, or name one of a registry."
        )
    return f"The machine has no image {image} for this run, and `pull: {pull}` has none fetched: say `pull: missing`."


def _short(image: str) -> str:
    return image.removeprefix("sha256:")[:12]
