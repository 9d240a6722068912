"""Containers: which engine runs them, and the argument lists that it is given.

Nothing here starts anything. The lists are those of podman(1) 4 and later and docker(1) 20.10 and later, which agree
in all that is used. No argument holds a secret: variables and the command reach the container by its standard input
(:func:`script`), since arguments can be read by everybody on the machine, and an engine keeps them on its disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from runyard.core.errors import Refused

PODMAN: Final = "podman"
DOCKER: Final = "docker"
ENGINES: Final = (PODMAN, DOCKER)
"""In the order of preference: Podman needs no daemon, so that nothing but the kernel stands between run and shim."""
CHOICES: Final = ("auto", *ENGINES, "none")
CDI_SINCE: Final = {PODMAN: (4, 1), DOCKER: (25, 0)}
"""The first versions that take ``--device nvidia.com/gpu=...`` (Container Device Interface)."""
INSTALL: Final = "`apt-get install podman` (or docker.io) on it and restart Runyard"
HOME_LABEL: Final = "runyard.home"
LEAST_MEMORY: Final = 8 << 20
"""Engines refuse less."""
READY: Final = "runyard: ready"
"""What process 1 of a container says on its standard error when it waits for its script."""
END_OF_SCRIPT: Final = "."


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine that answers. ``version``: its first two numbers; ``cdi``: a CDI specification for NVIDIA's
    devices is there; ``rootless``: it runs as another user than root."""

    kind: str
    path: str
    version: tuple[int, int]
    cdi: bool = False
    rootless: bool = False

    def __str__(self) -> str:
        return f"{self.kind.capitalize()} {self.version[0]}.{self.version[1]}"


@dataclass(frozen=True, slots=True)
class Absent:
    """A command that was looked for, and why it is of no use: it is not installed, or does not answer."""

    kind: str
    why: str


def choose(wanted: str, looked: Sequence[Engine | Absent]) -> Engine | str:
    """The engine to use of those that were looked for, or a sentence on why there is none."""
    if wanted == "none":
        return "containers are switched off (the setting `container_engine`)"
    kinds = ENGINES if wanted == "auto" else (wanted,)
    by_kind = {each.kind: each for each in looked}
    for kind in kinds:
        found = by_kind.get(kind)
        if isinstance(found, Engine):
            return found
    reasons = [f"{kind}: {each.why}" for kind in kinds if isinstance(each := by_kind.get(kind), Absent)]
    return "; ".join(reasons) or f"no {' or '.join(kinds)} was found"


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the machine that a container sees."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Box:
    """One learner's container. ``image``: an image id; ``user``: user and group id, None for the engine's own user;
    ``gpus``: UUIDs or numbers of devices; sizes in bytes; ``shm_bytes``: of its ``/dev/shm``; ``home``: whose it is;
    ``limits``: the machine's own of resources by name (``nofile``), soft and hard, -1 for none."""

    name: str
    image: str
    home: str
    user: tuple[int, int] | None
    groups: tuple[int, ...]
    mounts: tuple[Mount, ...]
    memory_bytes: int
    cpu_millis: int
    pids: int
    shm_bytes: int
    network: bool
    gpus: tuple[str, ...] = ()
    limits: tuple[tuple[str, int, int], ...] = ()


def create_arguments(engine: Engine, box: Box) -> list[str]:
    """Make a container that does nothing yet: its process 1 will wait for a script. Raises :class:`Refused` for a path
    that an engine cannot be told.

    The shim moves process 1 into the control group of the run, where memory, CPUs and processes are limited as those
    of every program; the engine's own limits hold for as long as it has not, and tell the program what it may have."""
    memory = f"{max(box.memory_bytes, LEAST_MEMORY)}b"
    return [
        *("create", "--name", box.name, "--label", f"{HOME_LABEL}={box.home}"),
        *("--interactive", "--pull", "never", "--log-driver", "none", "--restart", "no"),
        *("--read-only", "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges", "--security-opt", "label=disable"),
        *("--ipc", "private", "--network", "host" if box.network else "none"),
        *("--memory", memory, "--memory-swap", memory),
        *("--cpus", f"{max(10, box.cpu_millis) / 1000:.3f}", "--pids-limit", str(box.pids)),
        *("--shm-size", f"{box.shm_bytes}b"),
        *_user(engine, box),
        *_limits(engine, box),
        *(word for mount in box.mounts for word in ("--mount", _mount(mount))),
        *gpu_arguments(engine, box.gpus),
        *("--workdir", "/", "--entrypoint", "/bin/sh", box.image, "-c", WAITING),
    ]


def _user(engine: Engine, box: Box) -> list[str]:
    if engine.rootless and engine.kind == PODMAN:
        return ["--userns", "keep-id"]  # the user who runs the engine, under the same number
    if box.user is None:
        return []
    words = ["--user", f"{box.user[0]}:{box.user[1]}"]
    return [*words, *(word for group in box.groups for word in ("--group-add", str(group)))]


def _limits(engine: Engine, box: Box) -> list[str]:
    """Podman asks for a million files and processes, which it may not where a machine's hard limit is lower and nobody
    may raise it; Docker's daemon gives what it has itself."""
    if engine.kind != PODMAN:
        return []
    return [word for name, soft, hard in box.limits for word in ("--ulimit", f"{name}={soft}:{hard}")]


def _mount(mount: Mount) -> str:
    if any(character in path for path in (mount.source, mount.target) for character in ',"\n\r'):
        raise Refused("A container cannot be given a folder whose name has a comma, a quote or a line break.")
    read_only = ",readonly" if mount.read_only else ""
    return f"type=bind,source={mount.source},target={mount.target}{read_only}"


def gpu_arguments(engine: Engine, gpus: Sequence[str]) -> list[str]:
    """How a container gets these GPUs of NVIDIA's and no other, each by UUID or number: as CDI devices where the
    engine knows them and a specification is there, else by Docker's ``--gpus`` (nvidia-container-toolkit).

    Images of NVIDIA's set ``NVIDIA_VISIBLE_DEVICES=all``, which a runtime of NVIDIA's takes for a wish: ``void`` takes
    it back. Raises :class:`Refused` where an engine has neither way.
    """
    closed = ["--env", "NVIDIA_VISIBLE_DEVICES=void"]
    if not gpus:
        return closed
    if takes_cdi(engine):
        return [*closed, *(word for gpu in gpus for word in ("--device", f"nvidia.com/gpu={gpu}"))]
    if engine.kind == DOCKER:
        return ["--gpus", f'"device={",".join(gpus)}"']
    raise Refused(
        f"{engine} cannot give GPUs to containers here: the operator writes a CDI specification "
        "(`nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`)."
    )


def takes_cdi(engine: Engine) -> bool:
    """Whether GPUs can be named as CDI devices."""
    return engine.cdi and engine.version >= CDI_SINCE[engine.kind]


def start_arguments(box: str) -> list[str]:
    """Start a container, attached to its streams, and end when it does."""
    return ["start", "--attach", "--interactive", box]


def pid_arguments(box: str) -> list[str]:
    """Print the process id of a container's process 1, as the machine sees it."""
    return ["inspect", "--type", "container", "--format", "{{.State.Pid}}", box]


def wait_arguments(box: str) -> list[str]:
    """Print the exit code of a container, at once where it has ended."""
    return ["wait", box]


def remove_arguments(box: str) -> list[str]:
    """End a container and forget it."""
    return ["rm", "--force", "--volumes", box]


def list_arguments(home: str) -> list[str]:
    """Print the names of the containers of a node."""
    return ["ps", "--all", "--filter", f"label={HOME_LABEL}={home}", "--format", "{{.Names}}"]


def image_arguments(image: str) -> list[str]:
    """Print the id and the size in bytes of an image that is there."""
    return ["image", "inspect", "--format", "{{.Id}} {{.Size}}", image]


def pull_arguments(engine: Engine, image: str, credentials: str | None) -> list[str]:
    """Fetch an image. ``credentials``: a folder with a file ``config.json``; None: whatever the operator has set."""
    if credentials is None:
        return ["pull", image]
    if engine.kind == DOCKER:
        return ["--config", credentials, "pull", image]
    return ["pull", "--authfile", f"{credentials}/config.json", image]


# ---------------------------------------------------------------------------------------------------------- inside

WAITING: Final = (
    "_ry_n='\n'; _ry_s=\n"
    f"echo '{READY}' >&2\n"
    "while IFS= read -r _ry_l; do\n"
    f'  if [ "$_ry_l" = {END_OF_SCRIPT} ]; then eval "$_ry_s"; exit; fi\n'
    '  _ry_s="$_ry_s${_ry_l#:}$_ry_n"\n'
    "done\n"
    "exit 127\n"
)
"""What process 1 of a container does (POSIX sh): it says that it is there, reads a script to its end, and runs it.
Without an end there is nothing to run: that of its standard input is that of the shim."""


def script(env: Mapping[str, str], folder: str, words: str, search: Sequence[str]) -> str:
    """What is sent to a container's process 1: the program's variables, its working directory and its command
    (:func:`shell_words`), for a POSIX shell. ``search``: what comes before and what after the image's own
    ``PYTHONPATH``, or the program's.

    Process 1 stays above the program: the kernel spares a process 1 the signals that it does not catch, so that the
    program itself would never hear a SIGTERM. Both streams of the program become one, in the order of its writes.
    """
    before, after = search
    lines = [
        "exec 2>&1 </dev/null",
        "unset _ry_n _ry_s _ry_l NVIDIA_VISIBLE_DEVICES",
        *(f"export {name}={quoted(value)}" for name, value in env.items()),
        f'export PYTHONPATH={quoted(before)}"${{PYTHONPATH:+:$PYTHONPATH}}"{quoted(":" + after)}',
        f"cd {quoted(folder)} || exit 126",
        words,
        "exit $?",
    ]
    return "".join(f":{line}\n" for line in "\n".join(lines).split("\n")) + END_OF_SCRIPT + "\n"


def shell_words(command: str, above: Sequence[str] = ()) -> str:
    """How a command is run inside: by bash, and a part that fails fails it all; by ``sh`` where the image has no bash,
    with what of that it can. ``above``: words of what starts it (``launch: gpu``)."""
    plainly = quoted(f"(set -o pipefail) 2>/dev/null && set -o pipefail; {command}")
    started = " ".join([*map(quoted, above), '"$@"'])
    return (
        f'if command -v bash >/dev/null 2>&1; then set -- "$(command -v bash)" -o pipefail -e -c {quoted(command)}\n'
        f"else set -- /bin/sh -e -c {plainly}; fi\n{started}"
    )


def quoted(text: str) -> str:
    """One word of a POSIX shell, whatever is in it."""
    return "'" + text.replace("'", "'\\''") + "'"
