"""What a program sees: its variables, its ``config.json``, its command line. Nothing of the node's own gets through
but a short list, so that no token or key of ours or of another account can."""

from __future__ import annotations

import json
import os
import pwd
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from runyard.node.environments.interpreter import Interpreter
from runyard.node.home import AttemptFolder
from runyard.node.ready import Ready
from runyard.node.seats import Seat
from runyard.node.system_path import SYSTEM_PATH
from runyard.node.views import variable_name
from runyard.wire.orders import Launch

PASSED_ON = (
    "LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
    "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
"""What of the node's own environment a program gets: where libraries and certificates lie, and the time zone."""


def command_line(command: str) -> list[str]:
    """How a command is run: by bash, and a part that fails fails it all. Raises ``OSError`` where there is no bash."""
    return [_bash(), "-o", "pipefail", "-e", "-c", command]


@cache
def _bash() -> str:
    found = shutil.which("bash", path=SYSTEM_PATH)
    if found is None:
        raise OSError(2, "this machine has no bash, which runs the commands")
    return found


@cache
def login_of(uid: int | None) -> str:
    """The name of a user id (None: this process's). One that the machine has no account for is told as ``user-50001``:
    libraries ask who they run as (``getpass.getuser``), and PyTorch 2.11 cannot compile where nobody answers."""
    uid = os.geteuid() if uid is None else uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user-{uid}"


def environment(
    order: Launch,
    folder: AttemptFolder,
    checkpoints: str,
    ready: Ready,
    seat: Seat,
    interpreter: Interpreter,
    port: int,
    own: Mapping[str, str],
    uid: int | None,
) -> dict[str, str]:
    """All variables of a program. ``own``: the node's environment; ``port``: held, for ``MASTER_PORT``; ``uid``: who it
    runs as, None for the node's own user.

    The user's variables may change the defaults, but not what tells the program where it is.
    """
    defaults = {name: own[name] for name in PASSED_ON if name in own}
    defaults |= {
        "PATH": f"{interpreter.folder}:{SYSTEM_PATH}",
        "LANG": "C.UTF-8",
        "USER": login_of(uid),
        "LOGNAME": login_of(uid),
        "HOME": folder.own + "/home",
        "TMPDIR": folder.own + "/tmp",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(max(1, order.cpu_millis // 1000 // seat.processes)),
    }
    wanted = {**defaults, **interpreter.variables(), **order.env, **order.secret_env}
    search = [folder.work, wanted.get("PYTHONPATH", ""), *interpreter.search]
    wanted["PYTHONPATH"] = ":".join(filter(None, search))
    return wanted | _places(folder, checkpoints, ready) | _identity(order, seat, port) | _devices(seat)


def _places(folder: AttemptFolder, checkpoints: str, ready: Ready) -> dict[str, str]:
    places = {
        "DATA_DIR": ready.data_dir or "",
        "RESULT_DIR": folder.result,
        "CHECKPOINT_DIR": checkpoints,
        "MODEL_DIR": folder.work,
        "LOG_DIR": folder.logs,
        "JOB_STATE_DIR": folder.state,
        "RUNYARD_METRICS": folder.recorded,
    }
    if len(ready.references) > 1:
        for reference in ready.references:
            places.setdefault(variable_name(reference.name), reference.path)
    return places


def _identity(order: Launch, seat: Seat, port: int) -> dict[str, str]:
    return {
        "TRAINING_ID": order.run,
        "TRAINING_JOB": order.name,
        "TRAINING_COMMAND": order.command,
        "LEARNER_ID": str(seat.learner),
        "NUM_LEARNERS": str(seat.learners),
        "LEARNER_NAME_PREFIX": "learner",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(seat.first_rank),
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(seat.world_size),
    }


def _devices(seat: Seat) -> dict[str, str]:
    return {
        "GPU_COUNT": str(seat.gpus),
        "CUDA_VISIBLE_DEVICES": seat.devices,
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }


def merged_config(parameters: str, existing: bytes | None) -> bytes | None:
    """The text of ``config.json``: the hyper-parameters over what the code's own file says, if that is an object.

    None when there are no hyper-parameters: the code's own file stays as it is.
    """
    over: dict[str, Any] = json.loads(parameters)
    if not over:
        return None
    base: object = None
    if existing is not None:
        try:
            base = json.loads(existing)
        except ValueError:
            base = None
    merged: dict[str, Any] = {**base, **over} if isinstance(base, dict) else over
    return msgspec.json.format(json.dumps(merged, ensure_ascii=False).encode(), indent=2) + b"\n"


def visible_paths(folder: AttemptFolder, checkpoints: str, ready: Ready, interpreter: Interpreter) -> Sequence[str]:
    """What a program must be able to reach, wherever it lies."""
    data = [reference.path for reference in ready.references]
    merged = [ready.data_dir] if ready.data_dir else []
    return list(dict.fromkeys([folder.own, folder.result, checkpoints, *data, *merged, *interpreter.visible]))
