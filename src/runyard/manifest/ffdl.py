"""Dialect two, FfDL's: sizes at the top, ``data_stores`` and ``framework.command``."""

from __future__ import annotations

from typing import Final

from runyard.core.resources import DEFAULT_CONFIGURATIONS, Resources
from runyard.core.spec import Framework, ResourceRequest
from runyard.manifest import draft
from runyard.manifest.draft import Draft
from runyard.manifest.findings import Place
from runyard.manifest.kinds import SIZE, Many, Text, Thousandths, Whole
from runyard.manifest.metrics import METRICS, metrics
from runyard.manifest.options import RUNYARD, options
from runyard.manifest.stores import CONNECTION, DEFAULT_RESULTS, TYPE, Bucket, Reference, refer, store_kind
from runyard.manifest.tables import Key, Opened, Table

MAX_GPUS: Final = 1000
MAX_CPUS: Final = 100_000

NAME: Final = Key[str]("name", Text(limit=256), draft.UNTITLED, "Name of the run; need not be unique.")
DESCRIPTION: Final = Key[str]("description", draft.DESCRIPTION_TEXT, "", "What the run is for.")
VERSION: Final = Key[str]("version", Text(limit=256), "", "Version of the manifest; it has no effect.")
GPUS: Final = Key[int]("gpus", Whole(0, MAX_GPUS), 0, "GPUs of each learner: a whole number.")
CPUS: Final = Key[int | None](
    "cpus", Thousandths(MAX_CPUS), None, "CPUs of each learner, such as 0.5. Without it: 6 a GPU, 1 with none."
)
MEMORY: Final = Key[int | None](
    "memory",
    SIZE,
    None,
    "Memory of each learner: Mb, MB, GB count in thousands, MiB, GiB in 1024s. Without it: 12 GiB a GPU, 2 GiB with "
    "none.",
)
LEARNERS: Final = Key[int]("learners", Whole(1, 1000), 1, "How many learners, each of that size.")
GPU_TYPE: Final = Key[str | None]("gpu_type", Text(limit=256), None, "Kind of GPU, such as nvidia-TeslaV100.")
STORAGE: Final = Key[int | None](
    "storage", SIZE, None, "As FfDL wrote it.", unused="has no effect: a run may use what room its machine has."
)

STORE_ID: Final = Key[str]("id", Text(limit=256), "", "Name of the store; with several, DATA_DIR_<id> is its folder.")
CONTAINER: Final = Key[tuple[str, str]](
    "container", Bucket(), ("", ""), "The bucket, or bucket/prefix for a folder in it.", required=True
)
_CONTAINERS: Final = Table((CONTAINER,), short="container")
TRAINING_DATA: Final = Key[Opened | None]("training_data", _CONTAINERS, None, "Where the data are.")
TRAINING_RESULTS: Final = Key[Opened | None]("training_results", _CONTAINERS, None, "Where the results go.")
STORE_TABLE: Final = Table((STORE_ID, TYPE, TRAINING_DATA, TRAINING_RESULTS, CONNECTION))
DATA_STORES: Final = Key[tuple[Opened, ...]](
    "data_stores",
    Many(STORE_TABLE, limit=100),
    (),
    "Where data and results are; one of them holds the results. Without it: no data, and the bucket `results` of the "
    "embedded store.",
)

FRAMEWORK_NAME: Final = Key[str]("name", Text(limit=256), "", "Name of the framework, or `custom`.")
FRAMEWORK_VERSION: Final = Key[str](
    "version", Text(limit=256), "", "Version of the framework; with `custom`, a container image."
)
COMMAND: Final = Key[str](
    "command", draft.COMMAND_TEXT, "", "What to run, under bash, in the folder of the model definition.", required=True
)
_IMAGE_TAG: Final = Key[str](
    "image_tag", Text(limit=256), "", "As FfDL wrote it.", unused="has no effect: name the image with `custom`."
)
FRAMEWORK: Final = Key[Opened | None](
    "framework",
    Table((FRAMEWORK_NAME, FRAMEWORK_VERSION, COMMAND, _IMAGE_TAG)),
    None,
    "The framework and the command.",
    required=True,
)
TABLE: Final = Table(
    (
        NAME,
        DESCRIPTION,
        VERSION,
        GPUS,
        CPUS,
        MEMORY,
        LEARNERS,
        GPU_TYPE,
        STORAGE,
        DATA_STORES,
        FRAMEWORK,
        METRICS,
        RUNYARD,
    )
)


def read(opened: Opened) -> Draft:
    """Map a manifest of this dialect; problems go to its findings."""
    framework = opened[FRAMEWORK]
    data, results = _stores(opened)
    return Draft(
        dialect="ffdl",
        name=opened[NAME],
        command=framework[COMMAND].strip() if framework is not None else "",
        request=_request(opened),
        data=data,
        results=results,
        framework=_framework(framework),
        options=options(opened[RUNYARD]),
        metrics=metrics(opened[METRICS]),
        description=opened[DESCRIPTION].strip(),
    )


def _framework(opened: Opened | None) -> Framework:
    return Framework() if opened is None else draft.framework_at(opened, FRAMEWORK_NAME, FRAMEWORK_VERSION)


def _request(opened: Opened) -> ResourceRequest:
    """The size asked for; CPUs and memory left out are those of ``small`` for each GPU, of ``cpu`` with none."""
    gpus, cpus, memory = opened[GPUS], opened[CPUS], opened[MEMORY]
    usual = DEFAULT_CONFIGURATIONS["small" if gpus else "cpu"].resources
    resources = Resources(
        gpus,
        usual.cpu_millis * max(1, gpus) if cpus is None else cpus,
        usual.memory_mib * max(1, gpus) if memory is None else memory,
    )
    return ResourceRequest(resources, None, opened[LEARNERS], opened[GPU_TYPE])


def _stores(opened: Opened) -> tuple[tuple[tuple[Reference, Place], ...], Reference]:
    """The data references, and the one reference to the results."""
    stores = opened[DATA_STORES]
    data = tuple(
        (_reference(store, TRAINING_DATA), store.at(STORE_ID)) for store in stores if store[TRAINING_DATA] is not None
    )
    targets = [store for store in stores if TRAINING_RESULTS in store]
    for store in targets[1:]:
        store.at(TRAINING_RESULTS).say("The results go to one place: remove this, or the one before it.")
    if stores and not targets:
        stores[-1].at(TRAINING_RESULTS).say("This key is missing in all data stores: one of them takes the results.")
    for store in stores:
        if TRAINING_DATA not in store and TRAINING_RESULTS not in store:
            store.place.say("This store holds neither training_data nor training_results: remove it.")
    return data, _reference(targets[0], TRAINING_RESULTS) if targets else Reference(DEFAULT_RESULTS)


def _reference(store: Opened, part: Key[Opened | None]) -> Reference:
    inner, connection = store[part], store[CONNECTION]
    if inner is None or (CONNECTION in store and connection is None):
        return Reference(DEFAULT_RESULTS)  # its problem is reported
    bucket = inner[CONTAINER]
    return refer(
        store_kind(store[TYPE], connection), connection, store.at(CONNECTION), bucket, store[STORE_ID] or bucket[0]
    )
