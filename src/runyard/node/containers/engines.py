"""The container engines of this machine: which there are, and what they are asked for."""

from __future__ import annotations

import glob
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from runyard.core import containers
from runyard.core.containers import Absent, Engine
from runyard.node.system_path import SYSTEM_PATH

ASK_S: Final = 20.0
PULL_S: Final = 4 * 3600.0
_PASSED: Final = re.compile(
    r"PATH|HOME|TMPDIR|XDG_RUNTIME_DIR|DOCKER_\w+|CONTAINERS?_\w+|REGISTRY_AUTH_FILE|SSL_CERT_(?:FILE|DIR)|"
    r"(?i:https?_proxy|no_proxy|all_proxy)"
)
"""What of the node's own variables an engine's client needs: where the engine is, and the ways out of the machine."""
_VERSION: Final = re.compile(r"(\d+)\.(\d+)")
_CDI: Final = ("/etc/cdi/*", "/var/run/cdi/*")
_MOST_SPECIFICATION: Final = 1 << 20
Line = Callable[[str], None]


class ImageStore(Protocol):
    """What is asked of an engine about images."""

    def image(self, name: str) -> tuple[str, int] | None:
        """The id and the size of an image that is there, by name or id; None where it is not."""
        ...

    def pull(self, name: str, credentials: str | None, line: Line) -> tuple[int, str]:
        """Fetch an image; ``credentials`` as :func:`runyard.core.containers.pull_arguments` has them. Each of the
        engine's lines goes to ``line``. Returns its exit code and its last words on errors."""
        ...

    def remove_image(self, image: str) -> bool:
        """Remove an image by id with all its names; False where it stays, since a container needs it."""
        ...


class BoxStore(Protocol):
    """What is asked of an engine about containers, beside what shims do."""

    def boxes(self, home: str) -> list[str]:
        """The names of a node's containers, whatever became of them."""
        ...

    def remove(self, names: Sequence[str]) -> None:
        """End containers and forget them. Raises ``OSError``."""
        ...


@dataclass(frozen=True, slots=True)
class Client:
    """An engine's own command. It is both an :class:`ImageStore` and a :class:`BoxStore`."""

    engine: Engine
    env: Mapping[str, str] = field(repr=False)

    def image(self, name: str) -> tuple[str, int] | None:
        """See :class:`ImageStore`."""
        done = self._run(containers.image_arguments(name))
        words = done.stdout.decode().split()
        return (words[0], int(words[1])) if done.returncode == 0 and len(words) == 2 else None

    def pull(self, name: str, credentials: str | None, line: Line) -> tuple[int, str]:
        """See :class:`ImageStore`."""
        argv = [self.engine.path, *containers.pull_arguments(self.engine, name, credentials)]
        last: list[str] = []
        with subprocess.Popen(
            argv,
            env=dict(self.env),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            for raw in process.stdout:
                text = raw.decode("utf-8", "replace").strip()
                if text:
                    last = [*last[-5:], text]
                    line(text)
        return process.returncode, " ".join(last)[-600:]

    def remove_image(self, image: str) -> bool:
        """See :class:`ImageStore`."""
        return self._run(["rmi", "--force", image]).returncode == 0

    def boxes(self, home: str) -> list[str]:
        """See :class:`BoxStore`."""
        return self._run(containers.list_arguments(home)).stdout.decode().split()

    def remove(self, names: Sequence[str]) -> None:
        """See :class:`BoxStore`."""
        for name in names:  # Podman removes none of several where one is gone already
            self._run(containers.remove_arguments(name), 60.0)

    def _run(self, words: Sequence[str], within_s: float = ASK_S) -> subprocess.CompletedProcess[bytes]:
        return _call([self.engine.path, *words], self.env, within_s)


def _call(argv: Sequence[str], env: Mapping[str, str], within_s: float) -> subprocess.CompletedProcess[bytes]:
    """Run a client to its end. Raises ``OSError`` when it cannot be, or takes too long."""
    try:
        return subprocess.run(
            argv, env=dict(env), cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=within_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(0, f"{argv[0]} {argv[1]} took more than {within_s:.0f} s") from None


def surroundings(own: Mapping[str, str]) -> dict[str, str]:
    """The variables of an engine's client, from the node's own."""
    kept = {name: value for name, value in own.items() if _PASSED.fullmatch(name)}
    return {"PATH": SYSTEM_PATH, "HOME": "/", **kept, "LC_ALL": "C.UTF-8"}


def look(kind: str, own: Mapping[str, str], *, thoroughly: bool = False) -> Engine | Absent:
    """See whether an engine is there and answers. ``own``: the node's variables; ``thoroughly``: Podman opens its
    storage, too, which takes five times as long as asking for its version."""
    env = surroundings(own)
    path = shutil.which(kind, path=f"{env['PATH']}:{SYSTEM_PATH}")
    if path is None:
        return Absent(kind, "not installed")
    if kind == containers.PODMAN:
        words = ["info", "--format", "{{.Version.Version}}"] if thoroughly else ["--version"]
    elif (silent := _silence(env)) is not None:
        return Absent(kind, silent)
    else:
        words = ["version", "--format", "{{.Server.Version}}"]
    try:
        done = _call([path, *words], env, ASK_S)
    except OSError as error:
        return Absent(kind, f"{path} does not answer ({error.strerror})")
    told = done.stdout.decode("utf-8", "replace")
    version = _VERSION.search(told)
    if done.returncode or version is None:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it says nothing"]
        return Absent(kind, f"{path} does not answer: {said[-1][:200]}")
    rootless = kind == containers.PODMAN and os.geteuid() != 0
    return Engine(kind, path, (int(version[1]), int(version[2])), cdi=_knows_gpus(), rootless=rootless)


def _silence(env: Mapping[str, str]) -> str | None:
    """Why Docker's daemon cannot answer: nobody listens at its socket. None: somebody may."""
    address = env.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not address.startswith("unix://") or "DOCKER_CONTEXT" in env:
        return None
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(address.removeprefix("unix://"))
        except OSError as error:
            return f"its daemon does not answer at {address} ({error.strerror or error})"
    return None


def find(wanted: str, own: Mapping[str, str], *, thoroughly: bool = False) -> Client | str:
    """The engine that is used here, or why there is none, in a sentence without end. ``wanted``: see
    :data:`runyard.core.containers.CHOICES`."""
    looked: list[Engine | Absent] = []
    for kind in containers.ENGINES if wanted == "auto" else (wanted,):
        if kind in containers.ENGINES:
            looked.append(look(kind, own, thoroughly=thoroughly))
        if looked and isinstance(looked[-1], Engine):
            break  # the rest are asked for in vain
    chosen = containers.choose(wanted, looked)
    return chosen if isinstance(chosen, str) else Client(chosen, surroundings(own))


def _knows_gpus() -> bool:
    """Whether a CDI specification here names NVIDIA's devices."""
    for path in (path for pattern in _CDI for path in glob.glob(pattern)):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                if "nvidia.com/gpu" in file.read(_MOST_SPECIFICATION):
                    return True
        except OSError:
            continue
    return False
