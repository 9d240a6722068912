"""A command in a folder becomes training runs without a manifest: what is inferred, and from what.

See docs/decisions/0013-how-run-infers.md.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypedDict, Unpack, cast

from runyard.client.account_records import Status
from runyard.client.address import home_folder
from runyard.client.client import Client
from runyard.client.commands import Command
from runyard.client.decode import Json, integer, number, texts, truth
from runyard.client.errors import Misuse
from runyard.client.interpreters import Interpreter, find_interpreter, missing
from runyard.client.recipe import Recipe
from runyard.client.records import Run
from runyard.client.run_calls import Overrides
from runyard.client.training import Order, set_texts, submit
from runyard.client.waiting import fetch

OWN: Final = "the service's own Python"


@dataclass(frozen=True, slots=True)
class Given:
    """What the caller says of a run; None and empty are inferred. ``cpus`` of each run, ``memory`` text with its
    unit, ``data`` buckets of the embedded store, ``framework`` NAME or NAME:VERSION."""

    name: str | None = None
    gpus: int | None = None
    cpus: float | None = None
    memory: str | None = None
    framework: str | None = None
    python: str | None = None
    data: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    tags: tuple[str, ...] = ()
    priority: int | None = None
    max_runtime: str | None = None


@dataclass(frozen=True, slots=True)
class Inferred:
    """A recipe, where its environment and its size come from in words, and what looks wrong."""

    recipe: Recipe
    environment: str
    size: str
    warning: str | None = None


def infer(client: Client, command: Command, folder: Path, given: Given) -> Inferred:
    """What to run for a command in a folder: asks the service for its machines, and this machine for its Python."""
    if not folder.is_dir():
        raise Misuse(f"There is no folder {folder}: check the path.")
    status = client.status()
    gpus, cpu_millis, memory, size = _size(status, given)
    python, environment = _environment(client.url, command, folder, given)
    absent = missing(command, os.environ, folder)
    recipe = Recipe(
        name=given.name or _name(folder),
        command=command.portable.bash,
        gpus=gpus,
        cpu_millis=cpu_millis,
        memory=memory,
        framework=given.framework,
        python=python,
        data=given.data,
        env=given.env,
        tags=given.tags,
        priority=given.priority,
        max_runtime=given.max_runtime,
    )
    return Inferred(recipe, environment, size, absent)


def _name(folder: Path) -> str:
    name = "".join(letter if letter.isprintable() else "_" for letter in folder.resolve().name)
    return name.strip()[:256] or "untitled"


def _environment(url: str, command: Command, folder: Path, given: Given) -> tuple[str | None, str]:
    """The interpreter to ask for, None for the service's own, and where it comes from."""
    if given.python is not None:
        return given.python, given.python
    if given.framework is not None:
        return None, f"what the service has, or builds, for {given.framework}"
    here = installation_here(url)
    if here is None:
        return None, f"{OWN}, for it may be another machine than this (--python names an environment there)"
    found = find_interpreter(command, os.environ, folder)
    if found is None:
        return None, f"{OWN}, for none was found for this command here"
    told = f"Python {found.version} of {found.prefix} ({found.why})"
    own = _same_prefix(found, here)
    return (None, f"{told}, which is {OWN}") if own else (found.executable, told)


def installation_here(url: str) -> Json | None:
    """The record of the installation that answers at ``url`` if it is the one in this machine's RUNYARD_HOME, else
    None: an address of this machine alone may be a tunnel to another."""
    host = re.sub(r"\A\w+://|[:/][0-9/]*\Z", "", url).strip("[]")
    home = home_folder()
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
        ours = (home / "url").read_text(encoding="utf-8").strip().rstrip("/") == url.rstrip("/")
        record: object = json.loads((home / "up.json").read_text(encoding="utf-8")) if loopback and ours else None
    except (OSError, ValueError):
        return None
    return cast("Json", record) if isinstance(record, dict) else None


def _same_prefix(found: Interpreter, record: Json) -> bool:
    prefix = record.get("prefix")
    return isinstance(prefix, str) and os.path.realpath(prefix) == os.path.realpath(found.prefix)


def _size(status: Status, given: Given) -> tuple[int, int | None, str | None, str]:
    """GPUs, milli-CPUs and memory of each run, and a few words on why."""
    machines = [node for node in status.nodes if truth(node, "connected")] or list(status.nodes)
    slotted = [node for node in machines if texts(node, "gpus")]
    gpus = given.gpus if given.gpus is not None else 1 if slotted else 0
    shares = [_share(node, max(gpus, 1)) for node in slotted or machines]
    cpu_millis, memory_mib = min(shares, default=(None, None))
    if given.cpus is not None:
        cpu_millis = round(given.cpus * 1000)
    memory = given.memory if given.memory is not None else f"{memory_mib}MiB" if memory_mib is not None else None
    logical = any(truth(node, "logical_gpus") for node in slotted)
    return gpus, cpu_millis, memory, _size_text(gpus, cpu_millis, memory, logical=logical)


def _share(node: Json, slots: int) -> tuple[int, int]:
    """The milli-CPUs and MiB that belong to so many slots of a machine; one without slots is shared by its CPUs."""
    cpus, memory = number(node, "cpus"), integer(node, "memory_mib")
    there = len(texts(node, "gpus"))
    part = min(slots, there) / there if there else min(1.0, 1 / max(cpus, 1))
    return max(1, int(cpus * 1000 * part)), max(1, int(memory * part))


def _size_text(gpus: int, cpu_millis: int | None, memory: str | None, *, logical: bool) -> str:
    kind = "logical GPU slot" if logical else "GPU"
    parts = [f"{gpus} {kind}{'s' * (gpus != 1)}" if gpus else "no GPU"]
    if cpu_millis is not None:
        parts.append(f"{cpu_millis / 1000:g} CPU{'s' * (cpu_millis != 1000)}")
    match = re.fullmatch(r"([0-9]+)MiB", memory or "")
    if memory is not None:
        parts.append(f"{int(match[1]) / 1024:.3g} GB of memory" if match else f"{memory} of memory")
    return ", ".join(parts)


def refuse_whole_homes(folder: Path) -> None:
    """Raise :class:`Misuse` for a folder that nobody means to send: the root, or the user's home."""
    whole = folder.resolve()
    if whole == whole.parent or whole == Path.home().resolve():
        raise Misuse(f"{whole} would be sent as the code: go to the folder of your program first (--force sends it).")


def code_in(folder: Path) -> Path | None:
    """The folder as a model definition; None for one that is empty: a command needs no code of one's own."""
    return folder if any(folder.iterdir()) else None


class Asked(TypedDict, total=False):
    """The fields of :class:`Given`, as keywords of :func:`run`."""

    name: str
    gpus: int
    cpus: float
    memory: str
    framework: str
    python: str
    data: tuple[str, ...]
    env: Mapping[str, str]
    tags: tuple[str, ...]
    priority: int
    max_runtime: str


def run(
    command: str | Sequence[str],
    folder: str | Path = ".",
    *,
    sets: Sequence[str] | Mapping[str, object] = (),
    zipped: bool = False,
    append_args: bool = False,
    force: bool = False,
    overrides: Overrides | None = None,
    idempotency_key: str | None = None,
    client: Client | None = None,
    **given: Unpack[Asked],
) -> list[Run]:
    """Run a command in a folder without a manifest, and tell the runs as they were accepted.

    ``command``: a text for bash, or a list of words; ``folder``: the model definition. ``sets``, ``zipped`` and
    ``append_args`` as for :func:`runyard.train`; the keywords of :class:`Given` say what shall not be inferred.

    >>> runs = runyard.run("python train.py", sets={"lr": [0.1, 0.01]}, append_args=True, tags=("first",))
    >>> runyard.wait(runs)
    """
    client, path = client or Client(), Path(folder)
    if not force:
        refuse_whole_homes(path)
    inferred = infer(client, Command.of(command), path, Given(**given))
    order = Order(
        model=code_in(path),
        manifest=inferred.recipe.text(),
        sets=set_texts(sets),
        zipped=zipped,
        append_args=append_args,
        force=force,
        overrides=overrides or Overrides(),
    )
    submitted = submit(client, order, idempotency_key=idempotency_key)
    runs = fetch(client, submitted.ids)
    return [runs[each] for each in submitted.ids]
