"""The folder of an attempt, made ready for its shim: a private copy of the code, the program's own folders."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from errno import EINVAL

import msgspec

from runyard.core.errors import Refused
from runyard.core.house import User
from runyard.node.cache import Cache, remove_tree
from runyard.node.containers.boxes import Boxes, Contents, gpus_of, variables_of, words_of
from runyard.node.environment import command_line, environment, merged_config, visible_paths
from runyard.node.environments.interpreter import Interpreter
from runyard.node.home import PASSABLE, AttemptFolder, Home, make_folder, write_whole
from runyard.node.inventory import Inventory
from runyard.node.lent import NOTHING_LENT, Lent
from runyard.node.limits import DEFAULTS, Limits, read_limits
from runyard.node.private import linked_folders, private_sockets
from runyard.node.ready import Ready, Specs
from runyard.node.seats import Seat, seats
from runyard.node.users import Mapping as Users
from runyard.node.users import identity
from runyard.shim import fan
from runyard.wire.orders import Evaluation, Launch

FICLONE = 0x40049409
"""``_IOW(0x94, 9, int)`` of linux/fs.h: share a file's blocks, where the file system can."""
MOST_PROCESSES = 4096
SHARED_FOLDERS = ("result", "result/model")
OWN_FOLDERS = (
    "work",
    "logs",
    "state",
    "state/logs",
    "state/logs/tb",
    "home",
    "tmp",
)


class Stopped(Exception):
    """The attempt is not wanted any more."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What every launch on this node stands on. ``mapping``: from members to users, None where the node is not
    root. ``own``: the node's environment; ``namespaces``: those that programs are born in; ``lent``: what of
    the machine they see otherwise than it is; ``boxes``: their containers."""

    home: Home
    cache: Cache
    specs: Specs
    inventory: Inventory
    interpreter: Interpreter
    mapping: Users | None
    own: dict[str, str]
    limits: Limits = DEFAULTS
    namespaces: tuple[str, ...] = ()
    lent: Lent = NOTHING_LENT
    boxes: Boxes | None = None

    def uid(self, order: Launch) -> int | None:
        """The user id of an order's program; None: the node's."""
        user = self.user(order)
        return None if user is None else user.uid

    def user(self, order: Launch) -> User | None:
        """The user of an order's program; None: the node's. Raises ``PermissionError``."""
        return None if self.mapping is None else self.mapping.user(order.member, order.login)

    def group(self, folder: AttemptFolder) -> str:
        """The name of a learner's control group."""
        learner = f"-{folder.learner}" if folder.learner > 1 else ""
        return f"{self.home.group}/{folder.run}-{folder.number}{learner}"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A learner's folder that is ready, the order for its shim (with secrets), and its interpreter; ``processes``:
    how many it has (``launch: gpu``)."""

    folder: AttemptFolder
    shim_order: dict[str, object] = field(repr=False)
    interpreter: Interpreter
    processes: int = 1


def prepare(ground: Ground, order: Launch, ready: Ready, port: int, stopped: Callable[[], bool]) -> list[Prepared]:
    """Make the folders of an attempt's learners, whatever an earlier try left in them.

    ``port``: for ``MASTER_PORT``. Nothing secret is written. Raises :class:`Stopped`, or ``OSError``.
    """
    make_folders(ground, order, ready, stopped)
    return furnish(ground, order, ready, port)


def make_folders(ground: Ground, order: Launch, ready: Ready, stopped: Callable[[], bool]) -> None:
    """The part of :func:`prepare` that touches the disk, for which the slots need not be known."""
    home, user = ground.home, ground.user(order)
    checkpoints = home.checkpoints(order.run)
    for path in (home.run(order.run), os.path.dirname(home.attempt(order.run, order.attempt).path)):
        make_folder(path, PASSABLE)
    make_folder(checkpoints, 0o700)
    if user is not None:
        os.chown(checkpoints, user.uid, user.gid)
    for number in range(1, order.learners + 1):
        _make_folder(ground, order, home.attempt(order.run, order.attempt, number), ready, stopped)


def keep_order(ground: Ground, order: Launch) -> None:
    """Put down an order in place of one that had no slots yet, for an attempt whose folder is made already."""
    _write_order(ground.home.attempt(order.run, order.attempt), order, ground.uid(order), ground.limits)


def furnish(ground: Ground, order: Launch, ready: Ready, port: int) -> list[Prepared]:
    """The orders for the shims of learners whose folders are made: what each program sees, its slots among it."""
    home = ground.home
    checkpoints = home.checkpoints(order.run)
    if ready.data_dir is None:
        ready = msgspec.structs.replace(ready, data_dir=home.no_data)
    fixed = [each.path for each in ready.references if not each.path.startswith(home.data + "/")]
    uid = ground.uid(order)
    prepared: list[Prepared] = []
    for seat in seats(order, ground.inventory):
        folder = home.attempt(order.run, order.attempt, seat.learner)
        interpreter = ready.interpreter or ground.interpreter
        variables = environment(order, folder, checkpoints, ready, seat, interpreter, port, ground.own, uid)
        visible = list(visible_paths(folder, checkpoints, ready, interpreter))
        if ground.lent.sealed:
            visible += [
                path for path in (*ground.lent.visible(), *linked_folders(interpreter.sites)) if path not in visible
            ]
        if seat.processes > 1:
            visible += [path for path in ground.interpreter.visible if path not in visible]  # what starts them
        shim_order = _shim_order(ground, order, seat, folder, variables, visible, fixed)
        if ready.image:
            shim_order |= _in_container(ground, order, seat, folder, ready, variables)
        prepared.append(Prepared(folder, shim_order, interpreter, seat.processes))
    return prepared


def _make_folder(
    ground: Ground, order: Launch, folder: AttemptFolder, ready: Ready, stopped: Callable[[], bool]
) -> None:
    user = ground.user(order)
    make_folder(folder.path, PASSABLE)
    if os.path.lexists(folder.own):
        remove_tree(folder.own)
    _write_order(folder, order, None if user is None else user.uid, ground.limits)
    _link_evidence(ground.specs, folder, ready.spec)
    _empty_file(folder.log("training-log"))  # there from the first, to be watched
    names = (*OWN_FOLDERS, *(SHARED_FOLDERS if folder.learner == 1 else ()))
    for path in (folder.own, *(f"{folder.own}/{name}" for name in names)):
        os.mkdir(path, 0o700)
    if ready.code is not None:
        copy_tree(ground.cache.path("code", ready.code), folder.work, user, stopped)
    _configure(folder, order.parameters, user)
    if user is not None:
        for path in (folder.own, *(f"{folder.own}/{name}" for name in names)):
            os.chown(path, user.uid, user.gid)
    _empty_file(folder.prepared)  # what changes after this is the program's doing


def _empty_file(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666))


def _shim_order(
    ground: Ground,
    order: Launch,
    seat: Seat,
    folder: AttemptFolder,
    variables: dict[str, str],
    visible: Sequence[str],
    fixed: Sequence[str],
) -> dict[str, object]:
    return {
        "attempt": folder.name,
        "argv": [*_fan(seat, order, folder), *command_line(order.command)],
        "env": variables,
        "cwd": folder.work,
        "log": folder.log("training-log"),
        **identity(ground.user(order)),
        "cgroup": {
            "name": ground.group(folder),
            "memory_bytes": order.memory_mib << 20,
            "cpu_millis": order.cpu_millis,
            "pids": MOST_PROCESSES,
        },
        "max_runtime_s": None if order.max_runtime_ms is None else order.max_runtime_ms / 1000,
        "grace_s": order.grace_ms / 1000,
        "visible": visible,
        "shm_mib": order.shm_mib,
        "network": order.network,
        "namespaces": ground.namespaces,
        "missing": list(ground.lent.missing),
        "open_calls": list(ground.lent.open_calls),
        "hide": [ground.home.runs, *ground.lent.hidden],
        **ground.lent.words(folder, [ground.home.runs], fixed),
        "closed_devices": [*seat.closed, *(private_sockets() if ground.lent.sealed else ())],
    }


def _in_container(
    ground: Ground, order: Launch, seat: Seat, folder: AttemptFolder, ready: Ready, variables: Mapping[str, str]
) -> dict[str, object]:
    """What is otherwise in the order of a learner that runs in a container: the engine's words, and in place of a
    command that the shim executes the script that it hands over. Raises ``OSError``."""
    if ground.boxes is None:
        raise FileNotFoundError(2, "this machine has no container engine")
    share = len(order.slots) // order.learners
    gpus = gpus_of(ground.inventory, order.slots[(seat.learner - 1) * share : seat.learner * share])
    lent = {root.path: root.writable for root in ground.lent.roots}
    read_only, writable = _seen(folder, ground.home.checkpoints(order.run), ready, lent)
    given = {**order.env, **order.secret_env}
    contents = Contents(
        order,
        seat,
        folder,
        ready.image,
        ground.user(order),
        MOST_PROCESSES,
        gpus,
        read_only,
        writable,
        variables_of(variables, given, seat, real=bool(gpus)),
    )
    client = ground.boxes.client
    try:
        words = words_of(client, ground.boxes.home, ground.boxes.name(folder), contents)
    except Refused as error:
        raise OSError(EINVAL, error.message) from None
    return {
        "argv": [],
        "env": {},
        "namespaces": [],
        "missing": [],
        "container": words,
        "way_note": f"By {client.engine}.",
    }


def _seen(
    folder: AttemptFolder, checkpoints: str, ready: Ready, lent: Mapping[str, bool]
) -> tuple[list[str], list[str]]:
    """The folders of the machine that a container sees: those read-only, and those that it may write to."""
    data = [each.path for each in ready.references]
    writable = [path for path in data if any(_is_below(path, root) and lent[root] for root in lent)]
    read_only = [path for path in (*data, *filter(None, [ready.data_dir])) if path not in writable]
    return read_only, [folder.own, folder.result, checkpoints, *writable]


def _is_below(path: str, root: str) -> bool:
    return (path + "/").startswith(root.rstrip("/") + "/")


def _fan(seat: Seat, order: Launch, folder: AttemptFolder) -> list[str]:
    """What starts several processes of one command; nothing where there is but one."""
    if seat.processes == 1:
        return []
    numbers = (seat.processes, seat.first_rank, order.grace_ms / 1000)
    failure = f"{folder.own}/{fan.FAILURE}"
    return [sys.executable, "-I", "-S", "-B", os.path.abspath(fan.__file__), *map(str, numbers), failure]


class Kept(msgspec.Struct, frozen=True):
    """What stays of a launch order on the disk."""

    run: str
    attempt: int
    name: str
    command: str
    spec: int
    parameters: str
    env: dict[str, str]
    secret_names: tuple[str, ...]
    slots: tuple[int, ...]
    cpu_millis: int
    memory_mib: int
    outputs: tuple[str, ...]
    uid: int | None
    limits: Limits = DEFAULTS
    evaluation: Evaluation = Evaluation()
    queue_class: int = 0
    learners: int = 1
    idle_ms: int = 0


MOST_REMEMBERED = 4096
_remembered: dict[str, Kept] = {}
"""What this node itself has written or read of orders, by the path of the attempt: nobody else writes there."""


def read_order(folder: AttemptFolder) -> Kept | None:
    """What was kept of an attempt's order; None when it was never prepared."""
    kept = _remembered.get(folder.path)
    if kept is not None:
        return kept
    try:
        with open(folder.order, "rb") as file:
            kept = msgspec.json.decode(file.read(), type=Kept)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    _remember(folder, kept)
    return kept


def limits_of(folder: AttemptFolder) -> Limits:
    """The limits of a prepared attempt; the defaults where none were written down."""
    kept = _remembered.get(folder.path)
    return read_limits(folder) if kept is None else kept.limits


def _remember(folder: AttemptFolder, kept: Kept) -> None:
    while len(_remembered) >= MOST_REMEMBERED:
        _remembered.pop(next(iter(_remembered)), None)
    _remembered[folder.path] = kept


def forget_orders(home: Home, run: str) -> None:
    """The folders of a run are gone."""
    below = home.run(run) + "/"
    for path in [path for path in list(_remembered) if path.startswith(below)]:
        _remembered.pop(path, None)


def _write_order(folder: AttemptFolder, order: Launch, uid: int | None, limits: Limits) -> None:
    kept = Kept(
        order.run,
        order.attempt,
        order.name,
        order.command,
        order.stage.spec,
        order.parameters,
        order.env,
        tuple(sorted(order.secret_env)),
        order.slots,
        order.cpu_millis,
        order.memory_mib,
        order.outputs,
        uid,
        limits,
        order.evaluation,
        order.queue_class,
        order.learners,
        order.idle_ms,
    )
    write_whole(folder.order, msgspec.json.encode(kept))
    _remember(folder, kept)


def leave_evidence(ground: Ground, folder: AttemptFolder, spec: int, sentence: str) -> None:
    """Keep with an attempt that never begins how its data came, and why it does not begin. Raises ``OSError``."""
    for path in (ground.home.run(folder.run), os.path.dirname(folder.path), folder.path):
        make_folder(path, PASSABLE)
    _copy_evidence(ground.specs, folder, spec)
    with open(folder.log("load-data"), "ab") as file:
        file.write(f"{sentence}\n".encode())


def _link_evidence(specs: Specs, folder: AttemptFolder, spec: int) -> None:
    """The same file for all runs of a spec, which nobody writes to; a copy where it cannot be linked."""
    try:
        for stream in ("load-data", "load-model"):
            os.link(specs.evidence(spec, stream), folder.log(stream))
    except OSError:
        _copy_evidence(specs, folder, spec)


def _copy_evidence(specs: Specs, folder: AttemptFolder, spec: int) -> None:
    for stream in ("load-data", "load-model"):
        try:
            with open(specs.evidence(spec, stream), "rb") as source:
                write_whole(folder.log(stream), source.read())
        except FileNotFoundError:
            pass  # it was made ready by a node that kept none


def _configure(folder: AttemptFolder, parameters: str, user: User | None) -> None:
    path = folder.work + "/config.json"
    try:
        with open(path, "rb") as file:
            existing = file.read()
    except (FileNotFoundError, IsADirectoryError):
        existing = None
    text = merged_config(parameters, existing)
    if text is not None:
        write_whole(path, text)
        os.chmod(path, 0o644)
        if user is not None:
            os.chown(path, user.uid, user.gid)


def copy_tree(source: str, target: str, user: User | None, stopped: Callable[[], bool] = lambda: False) -> None:
    """Copy what is in a folder of plain files and folders into another, blocks shared where the file system can.

    Modes and times of change stay; the owner becomes ``user``. Raises :class:`Stopped` between two files.
    """
    for entry in os.scandir(source):
        if stopped():
            raise Stopped
        path = f"{target}/{entry.name}"
        facts = entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            os.mkdir(path)
            copy_tree(entry.path, path, user, stopped)
        else:
            _copy_file(entry.path, path, facts.st_size)
        os.chmod(path, facts.st_mode & 0o777)
        if user is not None:
            os.chown(path, user.uid, user.gid)
        os.utime(path, ns=(facts.st_mtime_ns, facts.st_mtime_ns))


def _copy_file(source: str, target: str, size: int) -> None:
    read = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        written = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            _copy_content(read, written, size)
        finally:
            os.close(written)
    finally:
        os.close(read)


def _copy_content(read: int, written: int, size: int) -> None:
    try:
        fcntl.ioctl(written, FICLONE, read)
        return
    except OSError:
        pass  # this file system cannot
    done = 0
    while done < size:
        count = os.sendfile(written, read, done, size - done)
        if count == 0:
            break
        done += count
