"""What is ready for a spec: written down without secrets, so that a node that starts again knows it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import msgspec

from runyard.node.environments.interpreter import Interpreter
from runyard.node.home import Home, write_whole
from runyard.node.views import without_secret
from runyard.wire.orders import Environment, Stage


class Reference(msgspec.Struct, frozen=True):
    """A data reference that is ready: its name and its folder."""

    name: str
    path: str


class Ready(msgspec.Struct, frozen=True):
    """Code and data of a spec are in these folders. ``code``: hash of the zip; ``entries``: the cache's folders that
    must stay for it; ``used``: a program has been launched with it; ``interpreter``: None for the node's own;
    ``image``: id of the container image that programs run in, empty for none."""

    spec: int
    fingerprint: str
    code: str | None
    data_dir: str | None
    references: tuple[Reference, ...]
    entries: tuple[str, ...]
    used: bool = False
    interpreter: Interpreter | None = None
    image: str = ""

    def is_whole(self) -> bool:
        """Whether all of it is still there."""
        paths = [*self.entries, *(reference.path for reference in self.references)]
        found = self.interpreter is None or self.interpreter.is_whole()
        return found and all(os.path.isdir(path) for path in paths)

    def serves(self, stage: Stage) -> bool:
        """Whether it is what an order asks for. One without a listing trusts what the node said was ready."""
        if not stage.listed:
            return self.code == stage.code
        return self.fingerprint == fingerprint(stage)


def fingerprint(stage: Stage) -> str:
    """What a stage order asks for, whatever its credentials."""
    parts = [msgspec.structs.replace(part, place=without_secret(part.place)) for part in stage.data]
    asked = (stage.code, parts)
    if stage.environment != Environment():
        asked = (*asked, msgspec.structs.replace(stage.environment, registry=None))
    return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()


class Specs:
    """The folder of what is ready, with the evidence of how it came: ``load-model.log`` and ``load-data.log``."""

    def __init__(self, home: Home) -> None:
        self._folder = home.specs

    def get(self, spec: int) -> Ready | None:
        """What is ready for a spec, if it still is whole."""
        try:
            with open(f"{self._folder}/{spec}.json", "rb") as file:
                ready = msgspec.json.decode(file.read(), type=Ready)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return ready if ready.is_whole() else None

    def put(self, ready: Ready) -> None:
        """Write down what is ready."""
        write_whole(f"{self._folder}/{ready.spec}.json", msgspec.json.encode(ready))

    def all(self) -> Iterator[Ready]:
        """Everything that is ready."""
        for name in os.listdir(self._folder):
            stem, _, ending = name.partition(".")
            if ending == "json" and (ready := self.get(int(stem))) is not None:
                yield ready

    def keep_evidence(self, spec: int, model: str, data: str) -> None:
        """Keep the two logs of a spec, whatever came of it."""
        for stream, text in (("load-model", model), ("load-data", data)):
            write_whole(self.evidence(spec, stream), text.encode())

    def evidence(self, spec: int, stream: str) -> str:
        """The file of a log, there or not."""
        return f"{self._folder}/{spec}.{stream}.log"

    def prune(self, before: float) -> None:
        """Forget what nobody has asked for since a time (seconds since 1970)."""
        for entry in list(os.scandir(self._folder)):
            stem = entry.name.partition(".")[0]
            if stem.isdigit() and entry.stat().st_mtime < before and self.asked_at(int(stem)) < before:
                self.forget(int(stem))

    def asked_at(self, spec: int) -> float:
        """When it was last made ready, ordered or used, in seconds since 1970; 0: it is not known."""
        try:
            return os.stat(f"{self._folder}/{spec}.json").st_mtime
        except FileNotFoundError:
            return 0.0

    def touch(self, spec: int) -> None:
        """It was asked for now."""
        try:
            os.utime(f"{self._folder}/{spec}.json")
        except FileNotFoundError:
            pass  # it was forgotten just now

    def forget(self, spec: int) -> None:
        """It is ready no longer."""
        for ending in ("json", "load-model.log", "load-data.log"):
            try:
                os.unlink(f"{self._folder}/{spec}.{ending}")
            except FileNotFoundError:
                pass  # it was never ready, or had no such log
