"""Environments that are built once, at their final place, and kept: a virtual environment for exact pins, and a layer
above an environment for a ``requirements.txt``.

A folder ``env/KEY`` is whole when its ``KEY.size`` is there, which is written last. ``KEY.lock`` is held by who builds
it, and by pip itself: should the node die, the next one waits for that pip to end before it begins anew. What was built
is never run by the node again: a package may bring code that Python executes at every start (``.pth``).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import secrets
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from runyard.node.cache import Cache, remove_tree
from runyard.node.environments.interpreter import Interpreter
from runyard.node.environments.pip import Phase, Pip, PipSettings
from runyard.node.environments.requirements import NAME, Requirements
from runyard.node.evidence import Evidence, human
from runyard.node.home import write_whole

KIND = "env"
STAMP = "runyard-built"
"""In every environment: a random word, by which a layer knows the very environment it was built above."""
BESIDE = "_runyard_base.pth"
MOST_SCRIPT = 256 * 1024

Install = Callable[[str, int], None]
"""What fills a new environment: its path, and the descriptor of its lock."""


@dataclass(frozen=True, slots=True)
class Built:
    """An environment in the cache. ``size``: bytes that were built just now, 0 when it was there."""

    interpreter: Interpreter
    entry: str
    size: int


class Building:
    """Builds environments into the cache, each once, whoever asks."""

    def __init__(self, cache: Cache, pip: Pip, settings: PipSettings, own: Interpreter) -> None:
        self._cache = cache
        self._pip = pip
        self._settings = settings
        self._own = own

    def pinned(self, pins: Sequence[str], evidence: Evidence, phase: Phase) -> Built:
        """A virtual environment with these pins. Raises :class:`EnvironmentFault` or ``OSError``."""
        key = self._key("pins", sorted(pins))
        words = ", ".join(pins)

        def install(path: str, hold: int) -> None:
            phase(f"installing {words}")
            self._pip.install(path, pins, evidence, phase, hold=hold)

        size = self._build(key, f"The environment with {words}", evidence, install)
        return Built(self._interpreter(key, None), self._cache.path(KIND, key), size)

    def layer(
        self, base: Interpreter, pins: Sequence[str], wanted: Requirements, evidence: Evidence, phase: Phase
    ) -> Built:
        """A virtual environment with what a ``requirements.txt`` asks for, above another one whose ``pins`` stay as
        they are. Raises :class:`EnvironmentFault` or ``OSError``."""
        key = self._key("layer", [identity(base), sorted(pins), wanted.lines])

        def install(path: str, hold: int) -> None:
            phase(f"installing what {NAME} asks for")
            asked, held = path + "/requirements.txt", path + "/constraints.txt"
            write_whole(asked, "".join(f"{line}\n" for line in wanted.lines).encode())
            write_whole(held, "".join(f"{_without_extra(pin)}\n" for pin in pins).encode())
            words = ["-r", asked, "-c", held]
            self._pip.install(path, words, evidence, phase, hold=hold, beneath=base.sites)
            _lay_above(path, base)

        size = self._build(key, f"The layer of {NAME}", evidence, install)
        return Built(self._interpreter(key, base), self._cache.path(KIND, key), size)

    def remove_halves(self) -> None:
        """Remove what a node left that died while it built, unless its pip still works there."""
        folder = self._cache.path(KIND, "")
        keys = {name.partition(".")[0] for name in os.listdir(folder)}
        for key in keys:
            if os.path.exists(f"{folder}{key}.size"):
                continue
            with _held(f"{folder}{key}.lock", wait=False) as hold:
                if hold is not None:
                    self._cache.discard(folder + key)
                    os.unlink(f"{folder}{key}.lock")

    def _key(self, kind: str, what: object) -> str:
        parts = (kind, what, self._own.python, platform.machine(), sys.base_prefix, self._settings.options)
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()

    def _build(self, key: str, what: str, evidence: Evidence, install: Install) -> int:
        path = self._cache.path(KIND, key)
        with self._cache.making(KIND, key):
            if self._cache.has(KIND, key):
                evidence.note(f"{what} is in this machine's cache ({key[:12]}), nothing is built.")
                return 0
            with _held(path + ".lock", wait=True) as hold:
                assert hold is not None
                remove_tree(path)
                evidence.note(f"{what} is built ({key[:12]}), with {self._own.executable}, Python {self._own.python}.")
                try:
                    self._pip.make_venv(path, evidence, hold)
                    install(path, hold)
                    write_whole(f"{path}/{STAMP}", secrets.token_hex(16).encode())
                    os.chmod(f"{path}/{STAMP}", 0o644)
                except BaseException:
                    self._cache.discard(path)
                    raise
                size = size_of(path)
                self._cache.keep_in_place(KIND, key, size)
        evidence.note(f"{what} has {human(size)}.")
        return size

    def _interpreter(self, key: str, base: Interpreter | None) -> Interpreter:
        path = self._cache.path(KIND, key)
        own = self._own
        version = ".".join(own.python.split(".")[:2])
        sites = (f"{path}/lib/python{version}/site-packages", *(base.sites if base is not None else ()))
        beneath = base if base is not None else own
        return Interpreter(
            folder=f"{path}/bin" if base is None else f"{path}/bin:{base.folder}",
            visible=tuple(dict.fromkeys([path, *own.visible, *beneath.visible])),
            executable=f"{path}/bin/python",
            python=own.python,
            sites=sites,
            prefix=path,
            relies_on=(f"{path}/bin/python", *beneath.relies_on),
        )


def identity(base: Interpreter) -> object:
    """What a layer is built above: the very environment that was built, or all that the node's own interpreter has."""
    if base.prefix is not None:
        with open(f"{base.prefix}/{STAMP}", encoding="ascii") as file:
            return [base.prefix, file.read()]
    names = sorted(name for site in base.sites for name in os.listdir(site) if name.endswith(("-info", ".egg-link")))
    return [base.executable, list(base.sites), names]


def _without_extra(pin: str) -> str:
    """A pin as pip takes it for a constraint: without extras."""
    name, bracket, rest = pin.partition("[")
    return name + rest.partition("]")[2] if bracket else pin


def _lay_above(path: str, base: Interpreter) -> None:
    """Let a new environment see the packages of its base behind its own, and run its scripts."""
    version = ".".join(base.python.split(".")[:2])
    text = "".join(f"import site; site.addsitedir({site!r})\n" for site in base.sites)
    site = f"{path}/lib/python{version}/site-packages/{BESIDE}"
    write_whole(site, text.encode())
    os.chmod(site, 0o644)
    for entry in os.scandir(base.folder.split(":")[0]):
        target = f"{path}/bin/{entry.name}"
        if entry.is_file() and not os.path.lexists(target) and entry.stat().st_size <= MOST_SCRIPT:
            _take_script(entry.path, target, f"{path}/bin/python")


def _take_script(source: str, target: str, python: str) -> None:
    """Copy a script of the base so that it runs under the layer's interpreter; what is no script of Python is left."""
    with open(source, "rb") as file:
        lines = file.read().split(b"\n")
    if not lines[0].startswith(b"#!"):
        return
    if b"python" in lines[0]:
        rest = lines[1:]
    elif lines[0].startswith(b"#!/bin/sh") and lines[1:2] and lines[1].startswith(b"'''exec'"):
        rest = lines[3:]  # pip's way where the path is too long for the first line
    else:
        return
    head = [b"#!/bin/sh", b"'''exec' \"" + os.fsencode(python) + b'" "$0" "$@"', b"' '''"]
    write_whole(target, b"\n".join([*head, *rest]))
    os.chmod(target, 0o755)


def size_of(path: str) -> int:
    """Bytes of the files below a folder."""
    total = 0
    for place, _, names in os.walk(path):
        total += sum(os.lstat(os.path.join(place, name)).st_size for name in names)
    return total


@contextmanager
def _held(path: str, *, wait: bool) -> Generator[int | None]:
    """Hold a lock file; gives its descriptor, or None when another process has it and it is not waited for."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield descriptor
    finally:
        os.close(descriptor)
