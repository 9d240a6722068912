"""The container of one learner: what it sees, what it may use, and the words for the shim that starts it."""

from __future__ import annotations

import hashlib
import os
import resource
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from runyard.core import containers
from runyard.core.containers import Box, Mount
from runyard.core.house import User
from runyard.node.became import is_held
from runyard.node.containers.engines import Client, find
from runyard.node.containers.images import Images
from runyard.node.environments.interpreter import RECORDER
from runyard.node.home import AttemptFolder, Home, say
from runyard.node.inventory import Inventory
from runyard.node.seats import Seat
from runyard.shim import fan
from runyard.wire.orders import Launch

INSIDE: Final = "/opt/runyard"
"""Where a container finds the recorder, and what starts one process for each GPU."""
TEMPORARY: Final = ("/tmp", "/var/tmp")
FEATURE: Final = "container"


class Boxes:
    """The engine of this node, and the containers that it has there. ``wanted``: the operator's choice; ``own``: the
    node's variables."""

    def __init__(self, home: Home, wanted: str, own: Mapping[str, str]) -> None:
        self.home = hashlib.sha256(os.path.realpath(home.root).encode()).hexdigest()[:12]
        self._home = home
        self._images: Images | None = None
        self._wanted = wanted
        self._own = own
        self._lock = threading.Lock()
        self._found: Client | str = "it was not looked for yet"

    def look(self) -> Client | None:
        """The engine; one that was not there is looked for again."""
        with self._lock:
            if isinstance(self._found, str):
                self._found = find(self._wanted, self._own)
            return self._found if isinstance(self._found, Client) else None

    @property
    def client(self) -> Client:
        """The engine. Raises ``OSError`` where there is none."""
        if (found := self.look()) is None:
            raise FileNotFoundError(2, f"this machine has no container engine: {self._found}")
        return found

    def name(self, folder: AttemptFolder) -> str:
        """What a learner's container is called: the same for each try to start it."""
        return f"runyard-{self.home}-{folder.run}-{folder.number}-{folder.learner}"

    def images(self) -> Images | None:
        """The images of the engine; None where there is none."""
        client = self.look()
        with self._lock:
            if self._images is None and client is not None:
                self._images = Images(client, self._home.root)
            return self._images

    def start(self) -> None:
        """Look for the engine, and for containers that nobody watches any more, in a thread."""
        threading.Thread(target=self.sweep, name="boxes", daemon=True).start()

    def sweep(self) -> None:
        """Remove what shims have left that died with their keepers."""
        if (client := self.look()) is None:
            return
        try:
            there = client.boxes(self.home)
            alive = self._living()  # after the list: a shim lives before its container does
            left = [name for name in there if name not in alive]
            client.remove(left)
        except OSError as error:
            say(f"The containers that were left could not be looked for: {error.strerror}.")
            return
        if left:
            say(f"Removed {len(left)} containers whose programs had lost who watched them.")

    def _living(self) -> set[str]:
        """The names of the containers whose shims live."""
        home = self._home
        folders = [each for first in home.all_attempts() for each in home.learners(first.run, first.number)]
        return {self.name(folder) for folder in folders if is_held(folder.lock)}


@dataclass(frozen=True, slots=True)
class Contents:
    """What a learner's container holds. ``read_only``, ``writable``: folders of the machine that it sees at their
    own places; ``variables``: all of the program's."""

    order: Launch
    seat: Seat
    folder: AttemptFolder
    image: str
    user: User | None
    pids: int
    gpus: tuple[str, ...]
    read_only: Sequence[str]
    writable: Sequence[str]
    variables: Mapping[str, str]


def words_of(client: Client, home: str, name: str, contents: Contents) -> dict[str, object]:
    """The part ``container`` of a shim's order. It has secrets. Raises :class:`runyard.core.errors.Refused`."""
    box = _box(home, name, contents)
    order, seat, folder = contents.order, contents.seat, contents.folder
    above: tuple[str, ...] = ()
    if seat.processes > 1:
        numbers = (seat.processes, seat.first_rank, order.grace_ms / 1000)
        failure = f"{folder.own}/{fan.FAILURE}"
        above = ("python3", "-I", "-S", "-B", f"{INSIDE}/fan.py", *map(str, numbers), failure)
    command = containers.shell_words(order.command, above)
    return {
        "engine": client.engine.path,
        "env": dict(client.env),
        "create": containers.create_arguments(client.engine, box),
        "start": containers.start_arguments(name),
        "pid": containers.pid_arguments(name),
        "wait": containers.wait_arguments(name),
        "remove": containers.remove_arguments(name),
        "script": containers.script(contents.variables, folder.work, command, (folder.work, f"{INSIDE}/path")),
    }


def _box(home: str, name: str, contents: Contents) -> Box:
    order, user = contents.order, contents.user
    return Box(
        name=name,
        image=contents.image,
        home=home,
        user=(os.geteuid(), os.getegid()) if user is None else (user.uid, user.gid),
        groups=() if user is None else tuple(user.groups),
        mounts=tuple(_mounts(contents, several=contents.seat.processes > 1)),
        memory_bytes=order.memory_mib << 20,
        cpu_millis=order.cpu_millis,
        pids=contents.pids,
        shm_bytes=(order.memory_mib if order.shm_mib is None else order.shm_mib) << 20,
        network=order.network,
        gpus=contents.gpus,
        limits=own_limits(),
    )


def own_limits() -> tuple[tuple[str, int, int], ...]:
    """This process's own. Podman lowers that of processes to the number of pids before a container has it."""
    soft, hard = (_at_most(limit) for limit in resource.getrlimit(resource.RLIMIT_NPROC))
    return ("nofile", *resource.getrlimit(resource.RLIMIT_NOFILE)), ("nproc", soft, hard)


def _at_most(limit: int) -> int:
    most = _number("/proc/sys/kernel/pid_max")
    return limit if 0 <= limit < most else most


def _number(path: str) -> int:
    with open(path, encoding="ascii") as file:
        return int(file.read())


def _mounts(contents: Contents, *, several: bool) -> Iterable[Mount]:
    """Each folder once, at the place that it has on the machine; outer ones first."""
    wanted = {**dict.fromkeys(contents.read_only, True), **dict.fromkeys(contents.writable, False)}
    seen: list[tuple[str, bool]] = []
    for path, closed in sorted(wanted.items()):
        if not any(path.startswith(outer + "/") and closed == as_closed for outer, as_closed in seen):
            seen.append((path, closed))
            yield Mount(path, path, closed)
    for place in TEMPORARY:
        yield Mount(f"{contents.folder.own}/tmp", place)
    yield Mount(RECORDER, f"{INSIDE}/path", read_only=True)
    if several:
        yield Mount(os.path.abspath(fan.__file__), f"{INSIDE}/fan.py", read_only=True)


def variables_of(variables: Mapping[str, str], given: Mapping[str, str], seat: Seat, *, real: bool) -> dict[str, str]:
    """A program's variables as they are in a container: what is the machine's own stays outside, and GPUs are numbered
    anew, from 0. ``given``: what the manifest sets, secrets included; ``real``: there are devices."""
    kept = {name: value for name, value in variables.items() if name not in _OF_MACHINE}
    kept |= {name: given[name] for name in _OF_MACHINE if name in given}
    if real:
        kept["CUDA_VISIBLE_DEVICES"] = ",".join(str(number) for number in range(seat.gpus))
    return kept


_OF_MACHINE: Final = (
    "PATH",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "CUDA_PATH",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)


def gpus_of(inventory: Inventory, slots: Sequence[int]) -> tuple[str, ...]:
    """The devices behind slots as an engine is told of them; none where nothing is behind them."""
    devices = [device for device in inventory.devices_of(slots) if device.nodes or device.uuid]
    return tuple(device.uuid or str(device.index) for device in devices)
