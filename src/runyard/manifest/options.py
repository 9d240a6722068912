"""The ``runyard:`` table: the keys of ours, valid in both dialects."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from runyard.core.idle import Then
from runyard.core.ids import is_run_id
from runyard.core.images import PULLS
from runyard.core.spec import Options
from runyard.manifest.findings import Place
from runyard.manifest.kinds import (
    SIZE,
    Choice,
    Environment,
    Json,
    Many,
    Pairs,
    Switch,
    Text,
    Value,
    Whole,
    duration,
    hyper_parameter_name,
    scalar,
)
from runyard.manifest.nodes import Node
from runyard.manifest.tables import Key, Opened, Table

RESERVED: Final = frozenset(
    [
        "DATA_DIR",
        "RESULT_DIR",
        "CHECKPOINT_DIR",
        "MODEL_DIR",
        "LOG_DIR",
        "JOB_STATE_DIR",
        "TRAINING_ID",
        "TRAINING_JOB",
        "TRAINING_COMMAND",
        "LEARNER_ID",
        "NUM_LEARNERS",
        "LEARNER_NAME_PREFIX",
        "MASTER_ADDR",
        "MASTER_PORT",
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "GPU_COUNT",
        "CUDA_VISIBLE_DEVICES",
        "SUBID",
    ]
)
"""The environment variables that Runyard sets; so it does all that begin with ``DATA_DIR_`` and ``RUNYARD_``."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_DEFAULTS: Final = Options()
_LATEST_MS: Final = 4_102_444_800_000  # 2100-01-01


def variable_name(name: str) -> str | None:
    """What is wrong with the name of an environment variable."""
    if not _VARIABLE.fullmatch(name):
        return "cannot be an environment variable: use letters, digits and `_`, and begin with no digit."
    if name in RESERVED or name.startswith(("DATA_DIR_", "RUNYARD_")):
        return "is set by Runyard itself: choose another name."
    return None


@dataclass(frozen=True, slots=True)
class _RunId:
    """The whole id of a training run, or of a trial of a search (``training-..._3``)."""

    def read(self, node: Node, place: Place) -> str | None:
        if (found := scalar(node, place, "the id of a training run")) is None:
            return None
        if is_run_id(re.sub(r"_[0-9]{1,9}\Z", "", found.text, flags=re.ASCII)):
            return found.text
        place.say("This must be the whole id of a training run, such as training-a1B2c3D4e.")
        return None

    def schema(self) -> Json:
        return {"type": "string", "pattern": r"^training-[0-9A-Za-z]{9}(_[0-9]+)?$"}


@dataclass(frozen=True, slots=True)
class _Moment:
    """A date and time, as milliseconds since the epoch; in UTC where it names no zone."""

    def read(self, node: Node, place: Place) -> int | None:
        if (found := scalar(node, place, "a date and time")) is None:
            return None
        try:
            moment = datetime.fromisoformat(found.text)
            at = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
        except (ValueError, OverflowError):
            at = -1
        if not 0 <= at <= _LATEST_MS:
            place.say("This must be a date and time such as 2030-01-31T22:00, in UTC, or with +01:00 behind it.")
            return None
        return at

    def schema(self) -> Json:
        return {"type": "string", "examples": ["2030-01-31T22:00", "2030-01-31T22:00+01:00"]}


@dataclass(frozen=True, slots=True)
class _Variable:
    """The name of an environment variable."""

    def read(self, node: Node, place: Place) -> str | None:
        if (found := scalar(node, place, "a name")) is None:
            return None
        if (wrong := variable_name(found.text)) is not None:
            place.say(f"{place.shown(found.text, 'This')} {wrong}")
            return None
        return found.text

    def schema(self) -> Json:
        return {"type": "string", "pattern": f"^{_VARIABLE.pattern}$"}


_TAG: Final = Text(re.compile(r"[^\s,\x00-\x1f\x7f]{1,64}"), "A tag has 1 to 64 characters, no space and no comma.", 64)
_GLOB: Final = Text(
    re.compile(r"(?!/)(?!(?:.*/)?\.\.(?:/|\Z))[^\x00-\x1f\x7f]+"),
    "This must be a pattern of file names below the working directory, such as *.ckpt, without `..`.",
)

IDLE_AFTER: Final = Key(
    "after",
    duration(0),
    _DEFAULTS.idle_after_ms,
    "How long it may do nothing: no log, no metric, no CPU and no GPU use. 0: for however long.",
    sample="30m",
)
IDLE_THEN: Final = Key(
    "then",
    Choice.of(*(each.value for each in Then)),
    _DEFAULTS.idle_then,
    "What follows: it is only told, stopped to wait again with its checkpoint, or stopped for good.",
    sample="requeue",
)
IDLE: Final[Key[Opened | None]] = Key(
    "idle",
    Table((IDLE_AFTER, IDLE_THEN), short="after"),
    None,
    "What is done with it when it does nothing for long. The operator's word without it.",
    sample="{after: 30m, then: requeue}",
)

HYPER_PARAMETERS: Final = Key(
    "hyper_parameters",
    Pairs(Value(), hyper_parameter_name),
    _DEFAULTS.hyper_parameters,
    "Names and values: in config.json, as {name} in the command, and what --set sets.",
    sample="{lr: 0.1, width: 64}",
)
ENV: Final = Key(
    "env",
    Pairs(Environment(), variable_name),
    _DEFAULTS.env,
    "Environment variables of the program. Not for secrets: they are shown with the run.",
    sample="{OMP_NUM_THREADS: 4}",
)
SECRETS: Final = Key(
    "secrets",
    Many(_Variable()),
    _DEFAULTS.secrets,
    "Stored secrets that the program gets in its environment, by name.",
    sample="[WANDB_API_KEY]",
)
TAGS: Final = Key(
    "tags",
    Many(_TAG),
    _DEFAULTS.tags,
    "Words to find runs by: 1 to 64 characters, no space, no comma.",
    sample="[baseline]",
)
PRIORITY: Final = Key(
    "priority", Whole(0, 100), _DEFAULTS.priority, "Order in the account's queue: 0 last, 100 first.", sample="50"
)
AFTER: Final = Key(
    "after",
    Many(_RunId()),
    _DEFAULTS.after,
    "Runs that must complete before this one starts.",
    sample="[training-a1B2c3D4e]",
)
MAX_RUNTIME: Final = Key(
    "max_runtime",
    duration(1),
    _DEFAULTS.max_runtime_ms,
    "Time that the program may run. Without it, no limit.",
    sample="2h",
)
MAX_RETRIES: Final = Key(
    "max_retries",
    Whole(0, 1000),
    _DEFAULTS.max_retries,
    "New attempts after faults of the program. Faults of the platform have a budget of their own.",
    sample="0",
)
GRACE: Final = Key(
    "grace",
    duration(0, 3_600_000, "1h"),  # what is canceled holds its GPUs no longer than that
    _DEFAULTS.grace_ms,
    "Time between SIGTERM and SIGKILL when a run is stopped, at most 1h. 30s without it.",
    sample="30s",
)
OUTPUTS: Final = Key(
    "outputs",
    Many(_GLOB),
    _DEFAULTS.outputs,
    "Files of the working directory to keep, beside those in RESULT_DIR.",
    sample='["*.ckpt"]',
)
START_FROM: Final = Key(
    "start_from",
    _RunId(),
    _DEFAULTS.start_from,
    "Run whose checkpoints are copied into CHECKPOINT_DIR first.",
    sample="training-a1B2c3D4e",
)
LAUNCH: Final = Key(
    "launch",
    Choice.of("learner", "gpu"),
    _DEFAULTS.launch,
    "One process for each learner, or one for each GPU of each learner.",
    sample="learner",
)
PYTHON: Final = Key(
    "python",
    Text(),
    _DEFAULTS.python,
    "An interpreter, virtual or conda environment that the operator allows: its path or name.",
    sample="/opt/envs/torch/bin/python",
)
WARM: Final = Key(
    "warm",
    Choice.of("auto", "off"),
    _DEFAULTS.warm,
    "Whether the run may start in a process that has its framework loaded.",
    sample="auto",
)
NETWORK: Final = Key("network", Switch(), _DEFAULTS.network, "Whether the program may use the network.", sample="on")
SHM: Final = Key("shm", SIZE, _DEFAULTS.shm_mib, "Size of /dev/shm, with its unit.", sample="2Gb")
PULL: Final = Key(
    "pull",
    Choice.of(*PULLS),
    _DEFAULTS.pull,
    "When the container image is fetched: where the machine lacks it, at each submission, or never.",
    sample="missing",
)
REGISTRY: Final = Key(
    "registry",
    _Variable(),
    _DEFAULTS.registry,
    "Stored secret with USER:PASSWORD (or USER:TOKEN) for the registry of the container image.",
    sample="REGISTRY_LOGIN",
)
START_AFTER: Final = Key(
    "start_after",
    _Moment(),
    _DEFAULTS.start_after_ms,
    "Date and time before which it does not start, in UTC or with an offset. Staged meanwhile.",
    sample="2030-01-31T22:00",
)

TABLE: Final = Table(
    (
        HYPER_PARAMETERS,
        ENV,
        SECRETS,
        TAGS,
        PRIORITY,
        AFTER,
        MAX_RUNTIME,
        MAX_RETRIES,
        GRACE,
        OUTPUTS,
        START_FROM,
        LAUNCH,
        PYTHON,
        WARM,
        NETWORK,
        SHM,
        PULL,
        REGISTRY,
        START_AFTER,
        IDLE,
    )
)

RUNYARD: Final[Key[Opened | None]] = Key("runyard", TABLE, None, "The keys of Runyard itself, valid in both dialects.")


def options(opened: Opened | None) -> Options:
    """The options of a ``runyard:`` table, or the defaults where there is none."""
    if opened is None:
        return _DEFAULTS
    secrets = tuple(dict.fromkeys(opened[SECRETS]))
    for name in secrets:
        if name in dict(opened[ENV]):
            opened.at(SECRETS).say(f"`{name}` is in `env` too: leave it in one of them.")
    idle = opened[IDLE]
    return Options(
        hyper_parameters=opened[HYPER_PARAMETERS],
        env=opened[ENV],
        secrets=secrets,
        tags=tuple(dict.fromkeys(opened[TAGS])),
        priority=opened[PRIORITY],
        after=tuple(dict.fromkeys(opened[AFTER])),
        max_runtime_ms=opened[MAX_RUNTIME],
        max_retries=opened[MAX_RETRIES],
        grace_ms=opened[GRACE],
        outputs=opened[OUTPUTS],
        start_from=opened[START_FROM],
        launch=opened[LAUNCH],
        python=opened[PYTHON],
        warm=opened[WARM],
        network=opened[NETWORK],
        shm_mib=opened[SHM],
        pull=opened[PULL],
        registry=opened[REGISTRY],
        start_after_ms=opened[START_AFTER],
        idle_after_ms=None if idle is None else idle[IDLE_AFTER],
        idle_then="" if idle is None else idle[IDLE_THEN],
    )
